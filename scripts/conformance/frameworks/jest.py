"""Jest: its JSON report."""

import collections
import json
import os

from frameworks import Test

# Jest counts what is left to do apart from what is skipped.
WORDS = {"skipped": "pending"}


def run(project):
    results = project.scratch / "results.json"
    project.run(["node_modules/.bin/jest", "--json", "--testLocationInResults", "--outputFile", str(results)])
    tests = collections.defaultdict(list)
    for file in json.loads(results.read_text())["testResults"]:
        path = os.path.relpath(file["name"], project.directory)
        names = collections.Counter()
        for test in file["assertionResults"]:
            name = test["fullName"]
            names[name] += 1
            identifier = name if names[name] == 1 else f"{name} ({names[name]})"
            status = "pending" if test["status"] == "todo" else test["status"]
            message = test["failureMessages"][0].removeprefix("Error: ") if test["failureMessages"] else None
            tests[identifier].append(Test(status, message, path, test["location"] and test["location"]["line"]))
    return tests
