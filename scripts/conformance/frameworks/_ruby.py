"""What Minitest and test-unit have in common: they are started as `rake test` starts them."""

import pathlib

FIXTURES = pathlib.Path(__file__).parents[3] / "crates/distributest-frameworks/tests/fixtures"


def run(project, reference):
    """The report that a program of the workers' tests makes of all test files."""
    report = project.scratch / "report.json"
    directory = pathlib.Path(project.directory)
    files = {file for pattern in ("test_*.rb", "*_test.rb") for file in directory.glob(f"test/**/{pattern}")}
    names = sorted(str(file.relative_to(directory)) for file in files if file.name != "test_helper.rb")
    project.run(["ruby", "-Ilib", "-Itest", str(FIXTURES / reference), str(report), *names])
    return report.read_text()


def place(project, location):
    """File and line of a test, where they are in the project."""
    path = pathlib.Path(location[0])
    inside = path.is_relative_to(project.directory)
    return (str(path.relative_to(project.directory)), location[1]) if inside else (None, None)
