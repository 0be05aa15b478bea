"""Mocha: its JSON report."""

import collections
import json
import os

from frameworks import Test
from frameworks._javascript import Identifiers

WORDS = {"skipped": "pending", "error": "failed"}


def run(project):
    report = project.scratch / "report.json"
    project.run(["node_modules/.bin/mocha", "--reporter=json", f"--reporter-option=output={report}"])
    tests, identifiers = collections.defaultdict(list), collections.defaultdict(Identifiers)
    results = json.loads(report.read_text())
    pending, failed = (collections.Counter(map(name, results[which])) for which in ("pending", "failures"))
    for test in results["tests"]:
        status = "pending" if pending[name(test)] else "failed" if failed[name(test)] else "passed"
        file = os.path.relpath(test["file"], project.directory)
        identifier = identifiers[file].of(test["fullTitle"])
        tests[identifier].append(Test(status, test["err"].get("message"), file))
    return tests


def name(test):
    return test["file"], test["fullTitle"]
