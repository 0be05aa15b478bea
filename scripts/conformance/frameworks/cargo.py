"""cargo: what `cargo test` prints, which has no machine-readable form that is stable.

Ids are the names of tests, which several binaries of a workspace may have in common.
"""

import collections
import re

from frameworks import Test

WORDS = {"passed": "ok", "failed": "FAILED", "error": "FAILED", "skipped": "ignored"}
FAILURES = ("FAILED",)

LINE = re.compile(r"test (?P<name>.+?)(?: - (?:should panic|compile fail|compile))? \.\.\. (?P<result>ok|FAILED|ignored)")


def run(project):
    said = project.run(["cargo", "test", "--workspace", "--no-fail-fast"]).stdout
    tests = collections.defaultdict(list)
    for line in map(LINE.match, said.splitlines()):
        if line:
            tests[line["name"]].append(Test(line["result"]))
    return tests
