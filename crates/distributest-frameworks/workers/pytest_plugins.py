"""The plugins by which the pytest worker hears of tests and leads pytest to a file; between `pytest_coverage.py` and `pytest_worker.py`."""

import functools
import warnings


class Screen:
    """Stands in for the terminal pytest writes on: shows only what is written while `open`."""

    encoding = "utf-8"

    def __init__(self):
        self.open = False

    def write(self, text):
        if self.open:
            sys.stdout.write(text)
        return len(text)

    def flush(self):
        sys.stdout.flush()

    def isatty(self):
        return False


def reporter_class(pytest):
    """The plugin that listens to pytest. Within a function, because importing this file must not need pytest."""

    class Reporter:
        def __init__(self, guide):
            self.guide = guide
            self.warnings = set()
            self.screen = Screen()

        def begin(self, order, witness, agent):
            self.file = order.file
            self.wanted = None if order.tests is None else set(order.tests)
            self.is_in_parts = bool(order.only or order.except_for)
            self.only = order.only and {self.name(id) for id in order.only}
            self.except_for = {self.name(id) for id in order.except_for or ()}
            self.collected = []
            self.witness = witness
            self.agent = agent
            self.found = set()
            self.reports = []
            self.warnings = set()
            self.seen_tests = 0
            self.deselected = 0
            self.failed = False
            self.broken = []
            self.interruption = None
            self.current = None
            self.usage_error = None

        # Session

        @pytest.hookimpl(tryfirst=True)
        def pytest_sessionstart(self, session):
            config = session.config
            terminal = config.pluginmanager.getplugin("terminalreporter")
            live_log = config.pluginmanager.has_plugin("logging") and config.getini("log_cli")
            if terminal is not None and not live_log:
                terminal._tw._file = self.screen
            # What failed last is remembered for the whole project: workers at the same time would overwrite each other.
            for name, option in (("lfplugin", "lf"), ("nfplugin", "newfirst"), ("stepwise", "stepwise")):
                if config.pluginmanager.has_plugin(name) and not config.getoption(option):
                    config.pluginmanager.unregister(name=name)

        # Last among the wrappers: within pytest's own, which writes its failures and its summary around this.
        @pytest.hookimpl(hookwrapper=True, trylast=True)
        def pytest_terminal_summary(self):
            self.screen.open = True
            yield
            self.screen.open = False

        def pytest_warning_recorded(self, warning_message):
            warning = warning_message
            text = warnings.formatwarning(warning.message, warning.category, warning.filename, warning.lineno)
            if text not in self.warnings:
                self.warnings.add(text)
                sys.stderr.write(text)

        # Collection

        # First of all: what others leave out of these is deselected, not unknown.
        @pytest.hookimpl(tryfirst=True)
        def pytest_collection_modifyitems(self, items):
            if self.wanted is not None:
                items[:] = [item for item in items if self.is_wanted(item.nodeid)]
            if self.is_in_parts:
                self.collected = [clean(item.nodeid) for item in items]
                items[:] = [item for item in items if self.is_of_part(item.nodeid)]

        def is_of_part(self, nodeid):
            name = self.name(clean(nodeid))
            return name in self.only if self.only else name not in self.except_for

        def is_wanted(self, nodeid):
            """Whether a test is asked for: by its id, by that of what it is in, or without its parameters."""
            name = self.name(clean(nodeid))

            def is_meant(asked_for):
                return name == asked_for or "[" not in asked_for and name.startswith((asked_for + "::", asked_for + "["))

            asked_for = [each for each in self.wanted if is_meant(self.name(each))]
            self.found.update(asked_for)
            return bool(asked_for)

        def name(self, nodeid):
            """What follows the file in an id."""
            in_file = self.file + "::"
            return nodeid[len(in_file) :] if nodeid.startswith(in_file) else nodeid.split("::", 1)[-1]

        def pytest_deselected(self, items):
            self.deselected += len(items)

        def pytest_collectreport(self, report):
            if report.failed:
                self.broken.append("\n".join([str(report.longrepr)] + sections(report)) + "\n")
            elif report.skipped:
                self.found.update(test for test in self.wanted or () if test.startswith(clean(report.nodeid)))
                if self.is_of_part(report.nodeid):
                    self.send_test(report.nodeid, (report.nodeid, None), "skipped", skip_reason(report))

        # Tests

        def pytest_runtest_logstart(self, nodeid, location):
            self.reports = []
            self.current = nodeid
            self.witness.enter_test(self.file, self.describe(nodeid, location))

        # Last among the wrappers: before pytest's own read what was captured, which is there once for all processes.
        @pytest.hookimpl(hookwrapper=True, trylast=True)
        def pytest_runtest_call(self):
            outcome = yield
            self.agent.end_stray(1 if outcome.excinfo else 0)

        def pytest_runtest_logreport(self, report):
            if report.outcome == "rerun":  # pytest-rerunfailures: only the last try counts
                self.reports = []
            else:
                self.reports.append(report)

        def pytest_runtest_logfinish(self, nodeid, location):
            self.current = None
            self.witness.begin(self.file)
            if self.reports:
                status, message, details = judge(self.reports)
                seconds = sum(getattr(report, "duration", 0) for report in self.reports)
                self.send_test(nodeid, location, status, message, details, seconds)

        def describe(self, nodeid, location):
            test = {"id": clean(nodeid), "name": clean(self.name(nodeid)), "file": clean(location[0])}
            if location[1] is not None:
                test["line"] = location[1] + 1
            return test

        def send_test(self, nodeid, location, status, message, details="", seconds=0):
            self.seen_tests += 1
            if status in ("failed", "error"):
                self.failed = True
            test = self.describe(nodeid, location)
            self.agent.send(
                type="test", status=status, seconds=seconds, message=one_line(message), details=cut(details), **test
            )

        # Ends

        def pytest_internalerror(self, excrepr):
            self.broken.append("pytest failed inside:\n{}".format(excrepr))

        def pytest_keyboard_interrupt(self, excinfo):
            self.interruption = excinfo

        def conclude(self, status):
            collected = {"collected": digest_of_ids(self.collected)} if self.is_in_parts else {}
            return {**self.judge(status), **collected}

        def judge(self, status):
            """The file's result, by the first of these that holds."""
            if self.broken:
                text = "\n".join(self.broken)
                return result("broken", last_error_line(text), text)
            if self.interruption is not None:
                text = "pytest was stopped by {}: {}".format(self.interruption.typename, self.interruption.value)
                text += " in " + self.current if self.current else ""
                return result("broken", text, self.interruption.getrepr(style="short"))
            if self.usage_error is not None and not self.guide.file_is_ignored:
                return result("broken", self.usage_error, self.usage_error)
            unknown = sorted((self.wanted or set()) - self.found)
            if unknown and not self.guide.file_is_ignored:
                return result("failed", "pytest finds no such test: " + ", ".join(unknown))
            if self.failed:
                return result("failed")
            if status not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED) and not self.guide.file_is_ignored:
                return result("failed", "no test failed, but pytest ended with exit status {}".format(int(status)))
            if self.seen_tests:
                return result("passed")
            if self.guide.file_is_ignored:
                return result("passed", "no tests: the project's pytest configuration ignores this file")
            if self.deselected:
                return result("passed", "no tests: all {} are deselected".format(self.deselected))
            return result("passed", "no tests")

    return Reporter


class Entry:
    """What of an `os.DirEntry` is asked for when pytest collects."""

    def __init__(self, path):
        self.path = path
        self.name = os.path.basename(path)

    def exists(self):
        return os.path.lexists(self.path)

    def is_dir(self):
        return os.path.isdir(self.path)

    def is_file(self):
        return os.path.isfile(self.path)


def guide_class(pytest):
    """The plugin that leads pytest to the one wanted file as if it had come there by itself.

    It keeps pytest 8 and newer from looking at everything in the directories on the way, and has it ignore a file given
    by name that it would have ignored on its own way (`collect_ignore`, `--ignore`).
    """

    class Guide:
        def __init__(self):
            self.on_the_way = {}
            self.file_is_ignored = False

        def lead_to(self, file, config):
            self.config = config
            self.file_is_ignored = False
            self.on_the_way = {}
            path = self.path = os.path.abspath(file)
            while os.path.dirname(path) != path:
                self.on_the_way[os.path.dirname(path)] = {os.path.basename(path), "__init__.py"}
                path = os.path.dirname(path)

        def look_only_on_the_way(self):
            """Has pytest 8 and newer not list the directories on the way, and ask all plugins about every entry, for each file."""
            from _pytest import main, python

            for module in (main, python):
                if hasattr(module, "scandir"):
                    # Without the guide of a session that has ended.
                    module.scandir = self.scanning(getattr(module.scandir, "__wrapped__", module.scandir))

        def scanning(self, scan_directory):
            @functools.wraps(scan_directory)
            def scan_on_the_way(directory, sort_key=lambda entry: entry.name):
                names = self.on_the_way.get(str(directory))
                if names is None:
                    return scan_directory(directory, sort_key)
                entries = [Entry(os.path.join(str(directory), name)) for name in names]
                return sorted((entry for entry in entries if entry.exists()), key=sort_key)

            return scan_on_the_way

        def is_aside(self, path):
            names = self.on_the_way.get(os.path.dirname(path))
            return True if names is not None and os.path.basename(path) not in names else None

        def drop_if_ignored(self, outcome, found, **argument):
            if found == self.path and self.config.hook.pytest_ignore_collect(config=self.config, **argument):
                self.file_is_ignored = True
                outcome.force_result([])

        if pytest.__version__.startswith("6."):

            @pytest.hookimpl(tryfirst=True)
            def pytest_ignore_collect(self, path):
                return self.is_aside(str(path))

            @pytest.hookimpl(hookwrapper=True)
            def pytest_collect_file(self, path):
                self.drop_if_ignored((yield), str(path), path=path)

        else:

            @pytest.hookimpl(tryfirst=True)
            def pytest_ignore_collect(self, collection_path):
                return self.is_aside(str(collection_path))

            @pytest.hookimpl(hookwrapper=True)
            def pytest_collect_file(self, file_path):
                self.drop_if_ignored((yield), str(file_path), collection_path=file_path)

    return Guide


def judge(reports):
    """Status, message and details of one test, from the reports of its set-up, call and tear-down."""
    failures = [report for report in reports if report.failed]
    if failures:
        status = "failed" if any(report.when == "call" for report in failures) else "error"
        tracebacks = [str(report.longrepr) for report in failures]
        # The last report has the sections of those before it.
        return status, failure_headline(failures[0]), "\n".join(tracebacks + sections(reports[-1])) + "\n"
    for report in reports:
        if hasattr(report, "wasxfail"):
            status = "expected_failure" if report.skipped else "unexpected_pass"
            return status, without_prefix(report.wasxfail, "reason: "), ""
    for report in reports:
        if report.skipped:
            return "skipped", skip_reason(report), ""
    return "passed", "", ""


def skip_reason(report):
    reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
    return without_prefix(reason, "Skipped: ")


def without_prefix(text, prefix):
    return text[len(prefix) :] if text.startswith(prefix) else text


def failure_headline(report):
    crash = getattr(report.longrepr, "reprcrash", None)
    return crash.message if crash is not None else last_error_line(str(report.longrepr))


def sections(report):
    """What was captured, each under a title, as pytest prints it."""
    lines = []
    for title, content in report.sections:
        lines += [" {} ".format(title).center(80, "-"), content.rstrip("\n")]
    return lines


def last_error_line(text):
    """The line of a traceback that names the error: the last one pytest marked with an E, else the last one."""
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    marked = [line[1:].strip() for line in lines if line.startswith("E ")]
    return (marked or lines or [""])[-1]


