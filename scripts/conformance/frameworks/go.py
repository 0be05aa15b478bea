"""Go: what `go test -json` says."""

import collections
import json

from frameworks import Test

WORDS = {"passed": "pass", "failed": "fail", "error": "fail", "skipped": "skip"}
FAILURES = {"fail"}


def run(project):
    tests = collections.defaultdict(list)
    for line in project.run(["go", "test", "-json", "-count=1", "./..."]).stdout.splitlines():
        event = json.loads(line)
        if "Test" in event and event["Action"] in WORDS.values():
            tests[event["Test"]].append(Test(event["Action"]))
    return tests
