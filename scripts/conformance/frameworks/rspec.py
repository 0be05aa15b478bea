"""RSpec: its JSON formatter."""

import collections
import json
import os

from frameworks import Test

WORDS = {"skipped": "pending", "expected_failure": "pending", "unexpected_pass": "failed", "error": "failed"}


def run(project):
    results = project.scratch / "results.json"
    project.run(["rspec", "--format", "json", "--out", str(results)])
    tests = collections.defaultdict(list)
    for example in json.loads(results.read_text())["examples"]:
        file = os.path.normpath(example["file_path"])
        tests[example["id"]].append(Test(example["status"], message(example), file, example["line_number"]))
    return tests


def message(example):
    """The reporter names the class of an exception only where it is not an expectation that was not met."""
    if "exception" not in example:
        return example["pending_message"]
    name, text = example["exception"]["class"], example["exception"]["message"]
    return text if name.startswith("RSpec::") else f"{name}: {text}"
