"""unittest: `python -m unittest` with a result class that records."""

from frameworks import _python

WORDS = {}


def run(project):
    return _python.recorded(project, ["python3", str(_python.FIXTURES / "unittest_reference.py"), "discover"])
