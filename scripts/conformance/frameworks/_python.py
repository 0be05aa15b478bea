"""unittest and Django: what unittest's result records, written by the reference runner that the workers' tests use."""

import collections
import json
import pathlib

from frameworks import Test

FIXTURES = pathlib.Path(__file__).resolve().parents[3] / "crates/distributest-frameworks/tests/fixtures"


def recorded(project, command):
    results = project.scratch / "results.jsonl"
    project.run(command, {"REFERENCE_REPORTS": str(results), "PYTHONPATH": str(FIXTURES)})
    tests = collections.defaultdict(list)
    for line in results.read_text().splitlines():
        report = json.loads(line)
        # unittest has files and lines in tracebacks only, and the other messages without the class of the error.
        message = report["message"] if report["status"] == "skipped" else None
        tests[report["id"]].append(Test(report["status"], message))
    return tests
