"""bats: its JUnit formatter."""

import collections
import xml.etree.ElementTree

from frameworks import Test

WORDS = {}


def run(project):
    said = project.run(["bats", "--recursive", "--formatter", "junit", "test"])
    tests = collections.defaultdict(list)
    for case in xml.etree.ElementTree.fromstring(said.stdout).iter("testcase"):
        failed, skipped = case.find("failure") is not None, case.find("skipped")
        status = "failed" if failed else "passed" if skipped is None else "skipped"
        tests[case.get("name")].append(Test(status, None if skipped is None else skipped.text or ""))
    return tests
