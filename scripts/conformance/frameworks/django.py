"""Django: `manage.py test` with a test runner that records."""

from frameworks import _python

WORDS = {}


def run(project):
    return _python.recorded(project, ["python3", "manage.py", "test", "--testrunner=django_reference.Recorder"])
