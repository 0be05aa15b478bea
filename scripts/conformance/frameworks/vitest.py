"""Vitest: its JSON report."""

from frameworks import _javascript

WORDS = {}


def run(project):
    report = project.scratch / "report.json"
    project.run(["node_modules/.bin/vitest", "run", "--reporter=json", f"--outputFile={report}", "--includeTaskLocation"])
    return _javascript.tests_of_report(project, report)
