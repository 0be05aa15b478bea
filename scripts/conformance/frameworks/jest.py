"""Jest: its JSON report."""

from frameworks import _javascript

WORDS = {}


def run(project):
    report = project.scratch / "report.json"
    project.run(["node_modules/.bin/jest", "--ci", "--json", "--testLocationInResults", "--outputFile", str(report)])
    return _javascript.tests_of_report(project, report)
