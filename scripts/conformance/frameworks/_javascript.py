"""What the frameworks of JavaScript have in common."""

import collections
import json
import os

from frameworks import Test


class Identifiers:
    """Names of a file's tests need not be unique: from the second on they are numbered."""

    def __init__(self):
        self.counts = collections.Counter()

    def of(self, name):
        self.counts[name] += 1
        return name if self.counts[name] == 1 else f"{name} ({self.counts[name]})"


def tests_of_report(project, report):
    """The tests in a JSON report as Jest writes it, and Vitest too."""
    tests = collections.defaultdict(list)
    for file in json.loads(report.read_text())["testResults"]:
        path = os.path.relpath(file["name"], project.directory)
        identifiers = Identifiers()
        for test in file["assertionResults"]:
            status = test["status"] if test["status"] in ("passed", "failed") else "skipped"
            message = test["failureMessages"][0].removeprefix("Error: ") if test["failureMessages"] else None
            line = test["location"]["line"] if test.get("location") else None
            tests[identifiers.of(test["fullName"].strip())].append(Test(status, message, path, line))
    return tests
