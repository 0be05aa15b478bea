"""node:test: the events its reporters get, by the reporter that the worker's tests use."""

import collections
import json
import os
import pathlib

from frameworks import Test
from frameworks._javascript import Identifiers

WORDS = {"error": "failed"}

REPORTER = pathlib.Path(__file__).parents[3] / "crates/distributest-frameworks/tests/fixtures/node_test_reference.cjs"


def run(project):
    said = project.run(["node", "--test", f"--test-reporter={REPORTER}"])
    tests, identifiers = collections.defaultdict(list), collections.defaultdict(Identifiers)
    names = []
    for line in said.stdout.splitlines():
        event = json.loads(line)
        names[event["nesting"] :] = [event["name"]]
        if event["type"] == "test:start" or (event["isSuite"] and event.get("error", {}).get("kind") in (None, "subtestsFailed")):
            continue
        file = os.path.relpath(event["file"], project.directory)
        # A file without a test is one itself.
        is_file = names == [os.path.join(project.directory, file)]
        status, message = judge(event)
        identifier = file if is_file else identifiers[file].of(" ".join(names))
        tests[identifier].append(Test(status, message, file, None if is_file else event["line"]))
    return tests


def judge(event):
    has_failed = event["type"] == "test:fail"
    if event.get("skip", False) is not False:
        return "skipped", None
    if event.get("todo", False) is not False:
        return ("expected_failure" if has_failed else "skipped"), None
    return ("failed", event["error"]["message"]) if has_failed else ("passed", None)
