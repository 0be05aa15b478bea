"""test-unit: what its runner's listeners are told, by the program that the worker's own tests compare with."""

import collections
import json

from frameworks import Test, _ruby

WORDS = {"skipped": "Omission", "expected_failure": "Pending", "failed": "Failure", "error": "Error"}
FAILURES = ("Failure", "Error")


def run(project):
    tests = collections.defaultdict(list)
    for test in json.loads(_ruby.run(project, "test_unit_reference.rb")):
        faults = [fault for fault in test["faults"] if fault[0] != "Notification"]
        status, message, _ = min(faults, key=lambda fault: fault[0] not in FAILURES, default=["passed", "", ""])
        tests[test["name"]].append(Test(status, message, *_ruby.place(project, test["place"])))
    return tests
