"""Go: `go test -json`, over every module of the workspace."""

import collections
import json

from frameworks import Test

WORDS = {"passed": "pass", "failed": "fail", "error": "fail", "skipped": "skip"}
FAILURES = ("fail",)


def run(project):
    modules = project.run(["go", "list", "-m", "-f", "{{.Dir}}/..."]).stdout.split()
    said = project.run(["go", "test", "-json", "-count=1", *modules]).stdout
    tests = collections.defaultdict(list)
    for event in map(json.loads, said.splitlines()):
        if "Test" in event and event["Action"] in ("pass", "fail", "skip"):
            tests[event["Test"]].append(Test(event["Action"]))
    return tests
