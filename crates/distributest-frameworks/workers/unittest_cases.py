"""Loads, selects and reports the test cases of Python's unittest, for the worker programs that run them.

Between `python_worker.py` and the program of a framework made of unittest's test cases, as one text.

How it works. A file is loaded as unittest's discovery would load it (`load_file`), then cut down to the tests asked for
(`keep_only`). `reporting` makes a result class of unittest's (or a project's) own one: it gathers what unittest says of a
test between its start and its end, and then sends one message. What unittest blames on no test (setUpClass,
tearDownModule, …) has an id of its own, the one unittest prints.

Rules:
- A subtest that fails or is skipped is reported by its own id, because unittest records it so, and the test it belongs
  to is as well: as failed where a subtest failed. Subtests that pass are not recorded by unittest, nor here.
- An unexpected success is a failure, as in unittest's own summary.
- Two tests with the same id (a load_tests that makes several instances of a class) are told apart by a number behind it.
"""

import inspect
import time
import unittest
import unittest.loader


class NotLoaded(Exception):
    """Why a test file has no tests: it raised."""

    def __init__(self, message, details):
        super().__init__(message)
        self.message = message
        self.details = details


def load_file(loader, file, top, pattern):
    """The tests of a file, loaded as discovery from the directory `top` would load it."""
    name = module_name(file, top)
    forget_namesakes(name, top)
    errors_before = len(loader.errors)
    try:
        module = importlib.import_module(name)
        tell_if_another_file(module, file)
        tests = loader.loadTestsFromModule(module, pattern=pattern)
    except unittest.SkipTest as reason:
        return unittest.loader._make_skipped_test(name, reason, loader.suiteClass)
    except BaseException as error:
        details = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        raise NotLoaded(headline(type(error), error), details) from error
    if len(loader.errors) > errors_before:
        details = "\n".join(loader.errors[errors_before:])
        raise NotLoaded([line for line in details.splitlines() if line.strip()][-1], details)
    # `keep_only` needs a suite, which a load_tests need not give.
    return tests if isinstance(tests, unittest.TestSuite) else loader.suiteClass(tests)


def module_name(file, top):
    """`tests/test_a.py` as a module below `top`; a package is `tests/__init__.py` here."""
    parts = os.path.splitext(os.path.relpath(file, top))[0].split(os.sep)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def top_directory(file):
    """The directory that the file's module is imported from: the first on the way up that is no package."""
    directory = os.path.dirname(os.path.abspath(file))
    while os.path.isfile(os.path.join(directory, "__init__.py")) and os.path.dirname(directory) != directory:
        directory = os.path.dirname(directory)
    return directory


def enclosing_packages(name):
    """`a.b.test_c` is in `a` and `a.b`."""
    parts = name.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts))]


def forget_namesakes(name, top):
    """Unloads packages of other directories that have the names of the packages a module is in."""
    for package in enclosing_packages(name):
        expected = os.path.join(top, *package.split("."), "__init__.py")
        loaded = getattr(sys.modules.get(package), "__file__", None)
        if loaded is not None and os.path.realpath(loaded) != os.path.realpath(expected):
            for module in [each for each in sys.modules if each == package or each.startswith(package + ".")]:
                del sys.modules[module]


def put_in_front(directory):
    """Makes a directory the first that modules are looked for in."""
    sys.path[:] = [directory] + [each for each in sys.path if each != directory]


def load_packages_ahead(advice):
    """Loads the packages a file lies in, which have been loaded by its process, for the files that follow."""
    packages = [package for package in advice.get("load", []) if package not in sys.modules]
    if packages:
        path = list(sys.path)
        put_in_front(advice["top"])
        load_ahead(packages)
        sys.path[:] = path
        warn_of_threads()


def tell_if_another_file(module, file):
    """Discovery's own check: a module of the same name that lies elsewhere would be run in place of the file."""
    found = os.path.realpath(getattr(module, "__file__", None) or "")
    if found != os.path.realpath(file):
        raise ImportError(
            "{!r} module incorrectly imported from {!r}. Expected {!r}. Is this module globally installed?".format(
                module.__name__, os.path.dirname(found), os.path.dirname(os.path.realpath(file))
            )
        )


def keep_only(suite, wanted):
    """Takes every test out of the suite that is not wanted; gives the wanted ids that are no test's."""
    found = set()

    def keep(tests):
        kept = []
        for test in tests:
            if isinstance(test, unittest.TestSuite):
                # In place: what runs a suite of a class of its own is that suite.
                test._tests = keep(test)
                kept.append(test)
            elif test is not None:
                asked_for = [identifier for identifier in wanted if is_meant(identifier, test)]
                found.update(asked_for)
                if asked_for:
                    kept.append(test)
        return kept

    suite._tests = keep(suite)
    return [identifier for identifier in wanted if identifier not in found]


def is_meant(identifier, test):
    """Whether an id, as reported before, is the test's or that of a part of it, or of what surrounds it; the id of what it
    is in, and names without the module, are understood too."""
    name = test.id()
    local = "{}.{}".format(type(test).__qualname__, getattr(test, "_testMethodName", ""))
    asked_for = identifier.replace("::", ".")
    if any(each == asked_for or each.startswith(asked_for + ".") for each in (name, local)):
        return True
    if identifier.startswith(name + " ") or type(test).__name__ == "ModuleSkipped":
        return True
    surrounding = re.match(r"(?:setUp|tearDown)(?:Class|Module) \((.+)\)", identifier)
    return surrounding is not None and name.startswith(surrounding.group(1) + ".")


def headline(kind, error):
    """The one line that names an error."""
    lines = traceback.format_exception_only(kind, error)
    # Where a SyntaxError stands comes before it, notes come after.
    return next((line for line in lines if not line.startswith(" ")), lines[-1])


def place(test, project):
    """File and line of a test, as far as they can be known and are in the project."""
    function = getattr(test, "_testFunc", None) or getattr(test, getattr(test, "_testMethodName", ""), None)
    doctest = getattr(test, "_dt_test", None)
    if doctest is not None:
        file, line = doctest.filename, None if doctest.lineno is None else doctest.lineno + 1
    else:
        code = getattr(inspect.unwrap(function), "__code__", None) if function is not None else None
        file, line = (code.co_filename, code.co_firstlineno) if code is not None else (None, None)
    if file is None:
        return {}
    file = os.path.relpath(os.path.realpath(file), project)
    if file.startswith(os.pardir):
        return {}
    return {"file": clean(file)} if line is None else {"file": clean(file), "line": line}


class Journal:
    """What became of the tests of one file, and who is told."""

    def __init__(self, file, witness, agent):
        self.file = file
        self.witness = witness
        self.agent = agent
        self.project = os.path.realpath(".")
        self.times_seen = collections.Counter()
        self.current = None
        self.seen_tests = 0
        self.failed = False

    def describe(self, test):
        """A test by id, name and place. Ids are given out once."""
        identifier = clean(test.id())
        case = test.test_case if is_subtest(test) else test
        method = getattr(case, "_testMethodName", None)
        name = "{}.{}".format(type(case).__qualname__, method) if method else identifier
        if is_subtest(test):
            name += " " + test._subDescription()
        self.times_seen[identifier] += 1
        if self.times_seen[identifier] > 1:
            identifier += " #{}".format(self.times_seen[identifier])
        return {"id": identifier, "name": clean(name), "file": clean(self.file), **place(case, self.project)}

    def send(self, description, status, message="", details="", seconds=0):
        self.seen_tests += 1
        if status in ("failed", "error"):
            self.failed = True
        self.agent.send(
            type="test", status=status, seconds=seconds, message=one_line(message), details=cut(details), **description
        )


def run_suite(suite, order, journal, run, narrowed_by=None):
    """Has the suite, or what is asked for of it, run by `run(suite)`; gives the file's result. Options that may have left
    tests out of the suite already are named in `narrowed_by`."""
    unknown = [] if order.tests is None else keep_only(suite, order.tests)
    directory = os.getcwd()
    try:
        run(suite)
    except BaseException as error:
        # unittest goes on after what a test raises, but not after KeyboardInterrupt, nor after SystemExit in setUpClass.
        journal.agent.end_stray(1)
        where = " in " + journal.current.description["id"] if journal.current else ""
        details = "".join(traceback.format_exception(type(error), error, error.__traceback__))
        return result("broken", "unittest was stopped by {}{}".format(headline(type(error), error).strip(), where), details)
    finally:
        os.chdir(directory)
    if unknown:
        return result("failed", "unittest finds no such test: " + ", ".join(unknown))
    if journal.failed:
        return result("failed")
    if journal.seen_tests:
        return result("passed")
    return result("passed", "no tests: {} leaves none".format(narrowed_by) if narrowed_by else "no tests")


class Running:
    """The test that runs now, and what unittest has said of it so far."""

    def __init__(self, description):
        self.description = description
        self.start = time.perf_counter()
        self.handled = sys.exc_info()[1]
        self.verdicts = []
        self.failed_subtests = []

    def judge(self):
        """Status, message and details."""
        for status in ("failed", "error", "skipped", "expected_failure"):
            found = [verdict for verdict in self.verdicts if verdict[0] == status]
            if found:
                # A test that failed may have an error in its tear-down as well.
                details = [verdict[2] for verdict in self.verdicts if verdict[2]]
                return status, found[0][1], "\n".join(details)
        if self.failed_subtests:
            names = [name for status, name in self.failed_subtests]
            count = "1 subtest" if len(names) == 1 else "{} subtests".format(len(names))
            is_failure = any(status == "failed" for status, name in self.failed_subtests)
            return "failed" if is_failure else "error", "{} failed: {}".format(count, "; ".join(names)), ""
        return "passed", "", ""


def reporting(result_class, journal):
    """A result class that tells the journal what it is told."""

    class Reporting(result_class):
        def startTest(self, test):
            description = journal.describe(test)
            journal.current = Running(description)
            journal.witness.enter_test(journal.file, description)
            super().startTest(test)

        def stopTest(self, test):
            running = journal.current
            status, message, details = running.judge()
            journal.agent.end_stray(1 if status in ("failed", "error") else 0)
            super().stopTest(test)
            if sys.exc_info()[1] is not running.handled:
                # Called on the way out of unittest: the test is not over, and `run_suite` names it.
                return
            journal.current = None
            journal.witness.begin(journal.file)
            journal.send(running.description, status, message, details, time.perf_counter() - running.start)

        def say(self, test, status, message="", details=""):
            """Of the test that runs; of what belongs to no test, or is part of one, at once."""
            if journal.current is None or is_subtest(test):
                journal.send(journal.describe(test), status, message, details)
            else:
                journal.current.verdicts.append((status, message, details))

        def addError(self, test, error):
            super().addError(test, error)
            self.say(test, "error", headline(*error[:2]), self.errors[-1][1])

        def addFailure(self, test, error):
            super().addFailure(test, error)
            self.say(test, "failed", headline(*error[:2]), self.failures[-1][1])

        def addSkip(self, test, reason):
            super().addSkip(test, reason)
            self.say(test, "skipped", reason)

        def addExpectedFailure(self, test, error):
            super().addExpectedFailure(test, error)
            self.say(test, "expected_failure", headline(*error[:2]))

        def addUnexpectedSuccess(self, test):
            super().addUnexpectedSuccess(test)
            self.say(test, "failed", "unexpected success")

        def addSubTest(self, test, subtest, error):
            super().addSubTest(test, subtest, error)
            if error is None:
                return
            status = "failed" if issubclass(error[0], test.failureException) else "error"
            details = (self.failures if status == "failed" else self.errors)[-1][1]
            journal.current.failed_subtests.append((status, subtest._subDescription()))
            self.say(subtest, status, headline(*error[:2]), details)

    return Reporting


def is_subtest(test):
    return hasattr(test, "test_case") and hasattr(test, "_subDescription")
