"""PHPUnit: its JUnit XML."""

import collections
import os
import xml.etree.ElementTree

from frameworks import Test

WORDS = {}


def run(project):
    report = project.scratch / "report.xml"
    project.run(["phpunit", "--log-junit", str(report)])
    tests = collections.defaultdict(list)
    for case in xml.etree.ElementTree.parse(report).iter("testcase"):
        status = "passed"
        for tag, word in (("failure", "failed"), ("error", "error"), ("warning", "failed"), ("skipped", "skipped")):
            status = word if case.find(tag) is not None else status
        file = os.path.relpath(case.get("file"), project.directory)
        tests[f"{case.get('classname')}::{case.get('name')}"].append(Test(status, None, file, int(case.get("line"))))
    return tests
