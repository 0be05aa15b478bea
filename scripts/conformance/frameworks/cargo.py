"""cargo: what `cargo test` prints, one line a test."""

import collections
import re

from frameworks import Test

WORDS = {"passed": "ok", "failed": "FAILED", "error": "FAILED", "skipped": "ignored"}
FAILURES = {"FAILED"}

# What follows a name is not part of it.
LINE = re.compile(r"test (?P<name>.+?)(?: - should panic| - compile| - compile fail)? \.\.\. (?P<status>ok|FAILED|ignored)")


def run(project):
    tests = collections.defaultdict(list)
    for line in project.run(["cargo", "test", "--no-fail-fast"]).stdout.splitlines():
        if found := LINE.match(line):
            tests[found["name"]].append(Test(found["status"]))
    return tests
