"""Minitest: what its reporters are told, by the program that the worker's own tests compare with."""

import collections
import json

from frameworks import Test, _ruby

WORDS = {}
STATUSES = {".": "passed", "S": "skipped", "F": "failed", "E": "error"}


def run(project):
    tests = collections.defaultdict(list)
    for test in json.loads(_ruby.run(project, "minitest_reference.rb")):
        message = "" if test["code"] == "." else test["headline"]
        tests[test["name"]].append(Test(STATUSES[test["code"]], message, *_ruby.place(project, test["place"])))
    return tests
