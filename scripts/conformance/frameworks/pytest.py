"""pytest: its terminal summary's own ledger, read by a plugin."""

import json
import os

from frameworks import Test

WORDS = {"expected_failure": "xfailed", "unexpected_pass": "xpassed"}

PLUGIN = '''
import json, os

def message(report):
    if hasattr(report, "wasxfail"):
        return report.wasxfail.removeprefix("reason: ")
    if report.skipped:
        return report.longrepr[2].removeprefix("Skipped: ")
    crash = getattr(report.longrepr, "reprcrash", None)
    return crash and crash.message

def pytest_terminal_summary(terminalreporter):
    words = ["passed", "skipped", "xfailed", "xpassed", "error", "failed"]
    tests = [
        [report.nodeid, word, message(report), *report.location[:2]]
        for word in words for report in terminalreporter.stats.get(word, []) if hasattr(report, "location")
    ]
    with open(os.environ["COMPARE_RESULTS"], "w") as file:
        json.dump(tests, file)
'''


def run(project):
    results = project.scratch / "results.json"
    (project.scratch / "compare_plugin.py").write_text(PLUGIN)
    path = os.pathsep.join(filter(None, [str(project.scratch), os.environ.get("PYTHONPATH")]))
    project.run(["pytest", "-p", "compare_plugin"], {"COMPARE_RESULTS": str(results), "PYTHONPATH": path})
    tests = {}
    # In ascending order of weight: a test that passed and whose tear-down then failed is an error.
    for identifier, status, message, file, line in json.loads(results.read_text()):
        tests[identifier] = [Test(status, message, file, None if line is None else line + 1)]
    return tests
