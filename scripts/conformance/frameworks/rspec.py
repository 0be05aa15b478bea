"""RSpec: its JSON formatter."""

import collections
import json
import os

from frameworks import Test

WORDS = {"skipped": "pending", "expected_failure": "pending", "unexpected_pass": "failed", "error": "failed"}


def run(project):
    results = project.scratch / "results.json"
    project.run(["rspec", "--format", "json", "--out", str(results)])
    tests = collections.defaultdict(list)
    for example in json.loads(results.read_text())["examples"]:
        file = os.path.normpath(example["file_path"])
        tests[example["id"]].append(Test(example["status"], file=file, line=example["line_number"]))
    return tests
