"""Runs pytest files for distributest: pytest and the project's conftest are loaded once, each file runs in a fork.

Started by an agent, which talks to it over the socket in DISTRIBUTEST_FD (see proto/worker.md). Needs pytest 6.2 or
newer on Python 3.8 or newer, and nothing else. The command line after this file's name is pytest's own: `-k`, `-m`, `-p`.

How it works. `Prepared` does what pytest does up to having a configuration: options, ini file, plugins, the initial
conftest files; and then goes as far ahead as nobody minds (`go_ahead`): pytest_configure and the session's start too,
unless a plugin or conftest has the hook that undoes them. For each file a process is forked from there, and does the
rest as a pytest started with that one file would: collection, tests, session finish, pytest_unconfigure. So what a
plugin opens in one hook and closes in another is opened and closed in the same process, once. With isolation "shared"
and "process" the whole work is done in one child process instead.

Rules:
- Tests run under pytest's own capturing, because tests notice the difference. What was captured is written to the real
  standard output and error as soon as pytest has read it, byte for byte; if the process dies before, its parent
  writes what was left, for the files pytest captures into are open in both (`Witness`).
- The process that runs tests notes in the witness what it is doing. If it dies, the parent knows which test did it.
- pytest's own screen is not shown: every result is reported over the socket. Sections that plugins add at the end
  (coverage tables, slowest durations) are, and so is everything when live logging is on.
- Options that make no sense for one file of many are switched off: see `quieten`.
"""

import os
import sys
import traceback
import warnings

OLDEST_PYTEST = (6, 2)
INI_FILES = ("pytest.toml", ".pytest.toml", "pytest.ini", ".pytest.ini", "pyproject.toml", "tox.ini", "setup.cfg", "setup.py")
SEEDING_PLUGINS = ("randomly", "random_order", "pytest_randomly", "random_order.plugin")
INSTALL_HINT = "install it where the tests run, for example in node_setup: pip install pytest"


def main():
    use_project_python()
    forget_own_directory()
    arguments = sys.argv[1:]
    sys.argv[:] = ["pytest"] + arguments
    worker = Worker("pytest")
    worker.start(lambda: worker.serve(Prepared.load(arguments, for_many_files=worker.forks)))


def describe_load_error(pytest, error):
    """One line and all lines on why pytest did not get to its configuration."""
    if isinstance(error, pytest.UsageError):
        details = "\n".join(str(argument) for argument in error.args) + "\n"
        # argparse begins with how it would like to be used.
        named = [line.split("error: ", 1)[1] for line in details.splitlines() if "error: " in line]
        return (named or [one_line(details)])[0], details
    if type(error).__name__ == "ConftestImportFailure":
        # Only its cause says something; where that is kept changed in pytest 8.
        error = error.cause if hasattr(error, "cause") else error.excinfo[1]
    details = "".join(traceback.format_exception(type(error), error, error.__traceback__))
    return last_error_line(details), details


class Prepared:
    """A pytest that has read its options, its ini file, its plugins and the initial conftest files."""

    @staticmethod
    def load(arguments, for_many_files=False):
        here = "{} (Python {}.{}.{})".format(sys.executable, *sys.version_info[:3])
        try:
            import pytest
        except ModuleNotFoundError as error:
            if error.name != "pytest":
                raise
            message = "pytest is not installed for {}, which is the first Python among: {}".format(here, PYTHON_PLACES)
            raise Unable(message, INSTALL_HINT) from error
        version = pytest.__version__
        if tuple(int(part) for part in version.split(".")[:2]) < OLDEST_PYTEST:
            raise Unable("pytest {} of {} is too old: 6.2 or newer is needed".format(version, here), INSTALL_HINT)
        try:
            prepared = Prepared(pytest, arguments, for_many_files)
            if for_many_files:
                prepared.go_ahead()
            return prepared
        except Unable:
            raise
        except BaseException as error:
            headline, details = describe_load_error(pytest, error)
            message = "pytest does not load this project: " + headline
            raise Unable(message, "see the worker's output; plain `pytest` fails in the same way", details) from error

    def __init__(self, pytest, arguments, for_many_files):
        from _pytest.config import _prepareconfig

        self.coverage = CoverageData()
        self.pytest = pytest
        self.version = pytest.__version__
        self.arguments = arguments
        self.guide = guide_class(pytest)()
        self.reporter = reporter_class(pytest)(self.guide)
        self.config = _prepareconfig(list(arguments), [self.reporter, self.guide])
        refuse_paths(self.config._parser.parse_known_args(list(arguments)).file_or_dir)
        quieten(self.config)
        self.coverage.watch(self.config)
        self.session = pytest.Session.from_config(self.config)
        self.session_started = False
        self.advice = {}
        self.advice_heeded = set()
        # What conftest files printed while they were loaded belongs to the worker's start, not to the first file.
        capture = self.config.pluginmanager.getplugin("capturemanager")
        if capture is not None and capture._global_capturing is not None:
            for descriptor, text in zip((1, 2), capture.read_global_capture()):
                write_all(descriptor, text.encode("utf-8", "backslashreplace"))

    def go_ahead(self):
        """Takes the next steps too, once for all files, as far as nobody undoes them after each file.

        What pytest's own plugins do is known to be fit for that, and plugins that undo nothing are taken to be. A
        project's own conftest files are given less credit: they use whatever hook comes first or last.
        """

        def plugins_with(name):
            hook = getattr(self.config.hook, name)
            return [each.plugin for each in hook.get_hookimpls() if self.is_foreign(each.plugin)]

        starting, finishing = plugins_with("pytest_sessionstart"), plugins_with("pytest_sessionfinish")
        undoing = [plugin for plugin in plugins_with("pytest_unconfigure") if not undoes_in_memory(plugin)]
        if undoing or any(belongs_to_project(plugin) for plugin in finishing):
            return
        self.configure()
        if not any(plugin in finishing or belongs_to_project(plugin) for plugin in starting):
            self.start_session()

    def is_foreign(self, plugin):
        name = getattr(plugin, "__name__", None) or type(plugin).__module__
        return plugin not in (self.reporter, self.guide, self.session) and not name.startswith("_pytest.")

    def configure(self):
        if not self.config._configured:
            self.config._do_configure()

    def start_session(self):
        if not self.session_started:
            self.config.hook.pytest_sessionstart(session=self.session)
            self.session_started = True

    def run(self, order, witness, agent):
        """Runs one file and returns its result; its tests are reported on the way."""
        file = order.file
        self.config.args = [pytest_argument(file)]
        self.config.option.file_or_dir = list(self.config.args)
        replay_captured_output(self.config, witness)
        self.guide.lead_to(file, self.config)
        self.reporter.begin(order, witness, agent)
        directory = os.getcwd()
        try:
            self.run_session()
        finally:
            agent.end_stray()
            os.chdir(directory)
        loaded = set(sys.modules)
        try:
            if self.session_started:
                self.config.hook.pytest_sessionfinish(session=self.session, exitstatus=self.session.exitstatus)
            self.config._ensure_unconfigure()
        except BaseException:
            self.reporter.broken.append("pytest failed to finish:\n" + traceback.format_exc())
        # By plugins, when their session ends: Hypothesis loads itself to print statistics.
        self.advice = {"load": [module for module in sys.modules if module not in loaded]}
        return self.reporter.conclude(self.session.exitstatus)

    def run_session(self):
        """What pytest's own `wrap_session` does, from where `go_ahead` stopped."""
        from _pytest._code import ExceptionInfo

        pytest, config, session = self.pytest, self.config, self.session
        session.exitstatus = pytest.ExitCode.OK
        try:
            self.configure()
            self.start_session()
            config.hook.pytest_collection(session=session)
            config.hook.pytest_runtestloop(session=session)
            if session.testsfailed:
                session.exitstatus = pytest.ExitCode.TESTS_FAILED
            elif session.testscollected == 0:
                session.exitstatus = pytest.ExitCode.NO_TESTS_COLLECTED
        except pytest.UsageError as error:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
            self.reporter.usage_error = "\n".join(str(argument) for argument in error.args)
        except session.Failed:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        except (KeyboardInterrupt, pytest.exit.Exception):
            session.exitstatus = pytest.ExitCode.INTERRUPTED
            config.hook.pytest_keyboard_interrupt(excinfo=ExceptionInfo.from_current())
        except BaseException:
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
            config.notify_exception(ExceptionInfo.from_current(), config.option)

    def heed(self, advice):
        modules = [module for module in (advice or {}).get("load", []) if module not in self.advice_heeded]
        if modules:
            load_ahead(modules)
            self.advice_heeded.update(modules)

    def renew(self):
        """pytest takes a configuration apart when a session ends; the next file needs a new one."""
        self.close()
        return Prepared.load(self.arguments)

    def close(self):
        self.config._ensure_unconfigure()
        self.coverage.finish()

    def reason_to_leave(self):
        if self.coverage.plugin is not None:
            return "coverage is measured"
        if any(self.config.pluginmanager.has_plugin(name) for name in SEEDING_PLUGINS):
            return "a plugin has chosen random numbers for this run"
        if any(not (getattr(undo, "__module__", None) or "").startswith("_pytest.") for undo in self.cleanups()):
            return "a plugin has something to undo at the end"
        return None

    def cleanups(self):
        """What pytest will call when its configuration ends."""
        if hasattr(self.config, "_cleanup"):
            return self.config._cleanup
        # Since pytest 8.4.
        called = self.config._cleanup_stack._exit_callbacks
        return [getattr(callback, "__wrapped__", callback) for _, callback in called]

    def depends_on(self):
        """Where pytest looks for its ini file: the project and the directories above it."""
        directory, files = os.getcwd(), []
        while True:
            files += [os.path.join(directory, name) for name in INI_FILES + ("conftest.py",)]
            if os.path.dirname(directory) == directory:
                return files
            directory = os.path.dirname(directory)


def refuse_paths(paths):
    """Paths that reach pytest among its options choose no files: those that run are handed out one by one."""
    if paths:
        message = "pytest does not run {} because it stands behind --".format(" ".join(map(str, paths)))
        raise Unable(message, "name files and tests before --: distributest {}".format(paths[0]))


def belongs_to_project(plugin):
    file = getattr(plugin, "__file__", None) or ""
    return file.startswith(os.getcwd() + os.sep) and "site-packages" not in file


def undoes_in_memory(plugin):
    """Whether a plugin's pytest_unconfigure is known to undo nothing that outlives the process."""
    return getattr(plugin, "__name__", "").split(".")[0] == "pytest_subtests"


def pytest_argument(file):
    """How to ask pytest for a file: its directory where the name would be read as `file::test[parameter]`."""
    return (os.path.dirname(file) or ".") if "[" in file or "::" in file else file


def quieten(config):
    """Switches off options, most likely set in the project's `addopts`, that are about a run of all files."""
    unwanted = {
        # pytest-xdist: distributing is done already.
        "dist": "no",
        "numprocesses": None,
        "tx": [],
        "looponfail": False,
        # Every file would overwrite the report of the one before; distributest writes one of its own.
        "xmlpath": None,
    }
    for name, neutral in unwanted.items():
        if hasattr(config.option, name):
            setattr(config.option, name, neutral)


def replay_captured_output(config, witness):
    """Makes pytest capture into the witness's files, and writes what it captured to the real outputs as it reads it."""
    manager = config.pluginmanager.getplugin("capturemanager")
    capturing = manager._global_capturing if manager is not None else None
    if capturing is None:
        return
    for descriptor, capture in ((1, capturing.out), (2, capturing.err)):
        if capture is None or manager._method == "tee-sys":
            continue
        if hasattr(capture, "targetfd"):
            os.dup2(witness.captured[descriptor].fileno(), capture.tmpfile.fileno(), inheritable=False)
        capture.snap = replaying(capture, capture.snap, witness, descriptor)
        # Called with what `snap` returned, which is written already.
        capture.writeorg = lambda data: None


def replaying(capture, snap, witness, descriptor):
    def replaying_snap():
        raw = read_all(capture.tmpfile.fileno()) if hasattr(capture, "targetfd") else None
        text = snap()
        witness.replay(descriptor, text.encode("utf-8", "backslashreplace") if raw is None else raw)
        return text

    return replaying_snap


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
            self.witness = witness
            self.agent = agent
            self.found = set()
            self.reports = []
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


if __name__ == "__main__":
    main()
