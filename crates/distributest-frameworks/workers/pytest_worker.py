"""Runs pytest files for distributest: pytest and the project's conftest are loaded once, each file runs in a fork.

Started by an agent, which talks to it over the socket in DISTRIBUTEST_FD (see proto/worker.md). Needs pytest 6.2 or
newer on Python 3.8 or newer, and nothing else. The command line after this file's name is pytest's own: `-k`, `-m`, `-p`.

How it works. `Prepared` does what pytest does up to having a configuration: options, ini file, plugins, the initial
conftest files; and then goes as far ahead as nobody minds (`go_ahead`): pytest_configure and the session's start too,
unless a plugin or conftest has the hook that undoes them. For each file a process is forked from there, and does the
rest as a pytest started with that one file would: collection, tests, session finish, pytest_unconfigure. So what a
plugin opens in one hook and closes in another is opened and closed in the same process, once. With isolation "shared"
and "process" the whole work is done in one child process instead.

With "shared" that process has one session for all of its files (`keep_session`), as a pytest with many files: the hooks that
begin and end a session are called once, conftest files are loaded once, and what is set up for the session stays. It
collects and runs file after file. A new session, with everything loaded again, begins behind a file in which pytest
would have stopped (`pytest.exit`, `--maxfail`), for one that comes again (its fixtures would be there twice), and for
every file where a plugin does something around all tests of a session (pytest-cov).

Rules:
- Tests run under pytest's own capturing, because tests notice the difference. What was captured is written to the real
  standard output and error as soon as pytest has read it, byte for byte; if the process dies before, its parent
  writes what was left, for the files pytest captures into are open in both (`Witness`).
- The process that runs tests notes in the witness what it is doing. If it dies, the parent knows which test did it.
- pytest's own screen is not shown: every result is reported over the socket. Sections that plugins add at the end
  (coverage tables, slowest durations) are, and so is everything when live logging is on.
- Options that make no sense for one file of many are switched off: see `quieten`.
"""

import contextlib
import os
import sys
import traceback

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
    worker.start(lambda: worker.serve(Prepared.load(arguments, worker.isolation)))


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
    def load(arguments, isolation):
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
            prepared = Prepared(pytest, arguments, isolation)
            if isolation == "fork":
                prepared.go_ahead()
            return prepared
        except Unable:
            raise
        except BaseException as error:
            headline, details = describe_load_error(pytest, error)
            message = "pytest does not load this project: " + headline
            raise Unable(message, "see the worker's output; plain `pytest` fails in the same way", details) from error

    def __init__(self, pytest, arguments, isolation):
        from _pytest.config import _prepareconfig

        self.coverage = CoverageData()
        self.pytest = pytest
        self.version = pytest.__version__
        self.arguments = arguments
        self.isolation = isolation
        self.guide = guide_class(pytest)()
        self.reporter = reporter_class(pytest)(self.guide)
        self.config = _prepareconfig(list(arguments), [self.reporter, self.guide])
        refuse_paths(self.config._parser.parse_known_args(list(arguments)).file_or_dir)
        self.guide.look_only_on_the_way()
        quieten(self.config)
        self.coverage.watch(self.config)
        self.session = pytest.Session.from_config(self.config)
        self.session_started = False
        self.keeps_session = False
        self.was_stopped = False
        self.has_ended = False
        self.files = set()
        self.tests_failed = 0
        self.tests_collected = 0
        self.advice = {}
        self.advice_heeded = set()
        self.failed_ends = []
        # What conftest files printed while they were loaded belongs to the worker's start, not to the first file.
        for descriptor, text in zip((1, 2), self.read_captured_output()):
            write_all(descriptor, text.encode("utf-8", "backslashreplace"))

    def read_captured_output(self):
        capture = self.config.pluginmanager.getplugin("capturemanager")
        is_capturing = capture is not None and capture._global_capturing is not None
        return capture.read_global_capture() if is_capturing else ()

    def go_ahead(self):
        """Takes the next steps too, once for all files, as far as nobody undoes them after each file.

        What pytest's own plugins do is known to be fit for that, and plugins that undo nothing are taken to be. A
        project's own conftest files are given less credit: they use whatever hook comes first or last.
        """

        starting, finishing = self.plugins_with("pytest_sessionstart"), self.plugins_with("pytest_sessionfinish")
        undoing = [plugin for plugin in self.plugins_with("pytest_unconfigure") if not undoes_in_memory(plugin)]
        if undoing or any(belongs_to_project(plugin) for plugin in finishing):
            return
        self.configure()
        if not any(plugin in finishing or belongs_to_project(plugin) for plugin in starting):
            self.start_session()

    def plugins_with(self, name):
        """The plugins with a hook, without pytest's own."""
        hook = getattr(self.config.hook, name)
        return [each.plugin for each in hook.get_hookimpls() if self.is_foreign(each.plugin)]

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
            if self.isolation == "shared" and not self.plugins_with("pytest_runtestloop"):
                self.keep_session()

    def keep_session(self):
        """Has what is set up for the whole session stay when a file's last test, behind which nothing comes yet, is torn down."""
        state, session = self.session._setupstate, self.session
        tear_down = state.teardown_exact
        # The last argument is the next test; before pytest 7 there is another one.
        state.teardown_exact = lambda *arguments: tear_down(*arguments[:-1], arguments[-1] or session)
        self.keeps_session = True

    def run(self, order, witness, agent):
        """Runs one file and returns its result; its tests are reported on the way."""
        file = order.file
        self.config.args = [pytest_argument(file)]
        self.config.option.file_or_dir = list(self.config.args)
        if not self.files:
            replay_captured_output(self.config, witness)
        self.files.add(file)
        # Before pytest 8: packages it has come by, which it does not enter again.
        getattr(self.config.pluginmanager, "_duplicatepaths", set()).clear()
        self.guide.lead_to(file, self.config)
        self.reporter.begin(order, witness, agent)
        directory = os.getcwd()
        try:
            self.run_session()
        finally:
            agent.end_stray()
            os.chdir(directory)
        self.tests_failed += self.session.testsfailed
        self.tests_collected += self.session.testscollected
        if self.can_go_on():
            # Written as it is read: it belongs to this file.
            self.read_captured_output()
        else:
            self.end()
        return self.reporter.conclude(self.session.exitstatus)

    def can_go_on(self):
        """Whether the session is fit for another file."""
        return (
            self.keeps_session
            and not (self.was_stopped or self.session.shouldstop or self.session.shouldfail)
            and all(node is self.session for node in self.session._setupstate.stack)
        )

    def end(self):
        """Ends the session, as pytest does."""
        self.session.testsfailed, self.session.testscollected = self.tests_failed, self.tests_collected
        self.has_ended = True
        loaded = set(sys.modules)
        for step in (self.tear_down_session, self.finish_session, self.config._ensure_unconfigure):
            try:
                step()
            except BaseException:
                self.reporter.broken.append("pytest failed to finish:\n" + traceback.format_exc())
        # By plugins, when their session ends: Hypothesis loads itself to print statistics.
        self.advice = {"load": [module for module in sys.modules if module not in loaded]}

    def tear_down_session(self):
        if self.keeps_session:
            state = self.session._setupstate
            del state.teardown_exact
            state.teardown_all() if hasattr(state, "teardown_all") else state.teardown_exact(None)

    def finish_session(self):
        if self.session_started:
            self.config.hook.pytest_sessionfinish(session=self.session, exitstatus=self.session.exitstatus)

    def run_session(self):
        """What pytest's own `wrap_session` does, from where `go_ahead` stopped."""
        from _pytest._code import ExceptionInfo

        pytest, config, session = self.pytest, self.config, self.session
        session.exitstatus = pytest.ExitCode.OK
        session.testsfailed = session.testscollected = 0
        try:
            self.configure()
            self.start_session()
            config.hook.pytest_collection(session=session)
            config.hook.pytest_runtestloop(session=session)
            session.exitstatus = self.exit_status()
        except pytest.UsageError as error:
            session.exitstatus = pytest.ExitCode.USAGE_ERROR
            self.reporter.usage_error = "\n".join(str(argument) for argument in error.args)
        except session.Failed:
            session.exitstatus = pytest.ExitCode.TESTS_FAILED
        except (KeyboardInterrupt, pytest.exit.Exception) as interruption:
            session.exitstatus = pytest.ExitCode.INTERRUPTED
            # A file that did not load interrupts a pytest with many files before its first test.
            is_at_beginning = isinstance(interruption, session.Interrupted) and not session.shouldstop
            if not (self.keeps_session and is_at_beginning):
                self.was_stopped = True
                config.hook.pytest_keyboard_interrupt(excinfo=ExceptionInfo.from_current())
        except BaseException:
            session.exitstatus = pytest.ExitCode.INTERNAL_ERROR
            self.was_stopped = True
            config.notify_exception(ExceptionInfo.from_current(), config.option)

    def heed(self, advice):
        modules = [module for module in (advice or {}).get("load", []) if module not in self.advice_heeded]
        if modules:
            load_ahead(modules)
            self.advice_heeded.update(modules)

    def exit_status(self):
        """What pytest ends with after the tests that the session counts."""
        if self.session.testsfailed:
            return self.pytest.ExitCode.TESTS_FAILED
        return self.pytest.ExitCode.OK if self.session.testscollected else self.pytest.ExitCode.NO_TESTS_COLLECTED

    def renew(self, order):
        """pytest takes a configuration apart when a session ends; the next file needs a new one then."""
        if not self.has_ended and order.file not in self.files:
            return self
        failed_ends = self.close()
        renewed = Prepared.load(self.arguments, self.isolation)
        renewed.failed_ends = failed_ends
        return renewed

    def close(self):
        """Ends the session of many files. Returns what went wrong in that, and at the ends of the sessions before it: none of
        the files can be told of it any more."""
        if self.keeps_session and not self.has_ended:
            self.session.testsfailed, self.session.testscollected = self.tests_failed, self.tests_collected
            self.session.exitstatus = expected = self.exit_status()
            self.reporter.broken = []
            self.end()
            sys.stderr.write("".join(self.reporter.broken))
            self.failed_ends += ["when the session ended: " + last_error_line(text) for text in self.reporter.broken]
            if self.session.exitstatus not in (expected, self.pytest.ExitCode.OK):
                self.failed_ends.append("the session ended with exit status {}".format(int(self.session.exitstatus)))
        self.config._ensure_unconfigure()
        self.coverage.finish()
        return self.failed_ends

    def reason_to_leave(self):
        if self.coverage.plugin is not None:
            return "coverage is measured"
        if any(self.config.pluginmanager.has_plugin(name) for name in SEEDING_PLUGINS):
            return "a plugin has chosen random numbers for this run"
        if not all(undoes_own_work(undo) for undo in self.cleanups()):
            return "a plugin has something to undo at the end"
        return None

    def cleanups(self):
        """What pytest will call when its configuration ends."""
        if hasattr(self.config, "_cleanup"):
            return self.config._cleanup
        # Since pytest 8.4.
        return exit_callbacks(self.config._cleanup_stack)

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


def undoes_own_work(undo):
    """Whether a function that pytest calls at its end is pytest's own."""
    owner = getattr(undo, "__self__", None)
    if isinstance(owner, contextlib.ExitStack):
        return all(undoes_own_work(callback) for callback in exit_callbacks(owner))
    frame = getattr(getattr(owner, "gen", None), "gi_frame", None)
    # Of the generator that is a context manager; else of the function, or of what `functools.partial` calls.
    module = frame.f_globals["__name__"] if frame else getattr(getattr(undo, "func", undo), "__module__", None)
    return (module or "").startswith("_pytest.")


def exit_callbacks(stack):
    return [getattr(callback, "__wrapped__", callback) for _, callback in stack._exit_callbacks]


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
    if not hasattr(capture, "targetfd"):

        def replaying_text():
            text = snap()
            witness.replay(descriptor, text.encode("utf-8", "backslashreplace"))
            return text

        return replaying_text
    captured = capture.tmpfile.fileno()

    def replaying_snap():
        # pytest asks six times for each test, and hardly ever is there anything.
        if os.fstat(captured).st_size == 0:
            return capture.EMPTY_BUFFER
        raw = read_all(captured)
        text = snap()
        witness.replay(descriptor, raw)
        return text

    return replaying_snap


if __name__ == "__main__":
    main()
