"""What every worker program in Python needs: the conversation with the agent, and the order in which files are run.

A worker program is this file, `python_processes.py`, `python_keeping.py` and the one of its framework, as one text (see
proto/worker.md); nothing in it is imported by tests.

How it works. What is loaded once and where files are run depends on the isolation:

- fork: the first process loads; each file is run in a fork of it.
- shared, process: the first process loads nothing, and watches over a fork that loads and runs one file after another.
- shared, where it may stay for another run: that fork only loads, if a fork of its own is as good as it is, and watches over that one, which
  runs the files of one run.

A framework's program gives `Worker.serve` an object that has loaded the framework and the project:

- `version`: the framework's;
- `run(order, witness, agent)`: runs a file and returns its `result`; reports its tests on the way. None: it can't be run
  before `heed` was called with what is in `advice`;
- `advice`: after `run`, what had better be done once, before another file is run: values that JSON has;
- `heed(advice)`: does that; with isolation "fork", in another process than `run`. None: that process died before its end;
- `renew(order)`: with isolation "shared", what is to run the next file: itself, or another object of its kind;
- `close()`: there are no more files; returns what went wrong as it ended, a line each;
- `reason_to_leave()`: why it can't stay for another run; None: it can;
- `depends_on()`: files, also such that are not there, that it would read if it were loaded now.
"""

import atexit
import base64
import collections
import contextlib
import faulthandler
import gc
import hashlib
import importlib
import json
import logging
import os
import random
import re
import resource
import select
import signal
import socket
import sys
import tempfile
import threading
import traceback
import weakref

PROTOCOL = 1
LONGEST_MESSAGE = 1000
LONGEST_DETAILS = 1024 * 1024
STACKS_SIGNAL = 16  # SIGSTKFLT, by which the agent asks what a process is doing
SHOWN_CALLS = 12

# What is needed after a test has put something else there.
process_id = os.getpid
to_json = json.dumps
from_json = json.loads

# A file to run: all of it, or, where `tests` is not None, the tests with these ids. Where it is run in parts, `only` are the
# tests of this part, as far as they are there, or `except_for` those of the others; otherwise both are None.
Order = collections.namedtuple("Order", ["file", "tests", "only", "except_for"])


# ---------------------------------------------------------------------------------------------------------------------
# Talking to the agent


class Agent:
    """The agent's end of the socket. Its descriptor is closed in every program a test starts.

    Only one process speaks at a time. A test that forks and lets both processes go on has one too many: it is not heard,
    and ends where the test does (`end_stray`).
    """

    def __init__(self, descriptor, framework):
        os.set_inheritable(descriptor, False)
        self.framework = framework
        self.speaker = process_id()
        self.socket = socket.socket(fileno=descriptor)
        self.incoming = self.socket.makefile("rb")

    def send(self, **message):
        if process_id() != self.speaker:
            return
        try:
            self.socket.sendall(to_json(message).encode("ascii") + b"\n")
        except OSError:
            # The agent is gone, and with it everyone who wants to know how this ends.
            os._exit(1)

    def ready(self, version, keeps=False):
        stays = {"keeps": True, "process": process_id()} if keeps else {}
        self.send(
            type="ready", protocol=PROTOCOL, framework=self.framework, version=version, runtime=runtime(), **stays
        )

    def finished(self, result):
        self.send(type="finished", **result)

    def end_failed(self, message):
        self.send(type="end_failed", message=one_line(message))

    def end_line(self):
        """Ends the line that a process which is dead now may have been in the middle of."""
        with contextlib.suppress(OSError):
            self.socket.sendall(b"\n")

    def messages(self):
        """What the agent says, until that is `quit` or it is gone."""
        while True:
            self.end_stray()
            line = self.incoming.readline()
            message = from_json(line) if line.strip() else {}
            if not line or message.get("type") == "quit":
                return
            yield message

    def orders(self, keep=None, renew=None):
        """What to run, file by file, until the agent has no more or is gone. The other two messages are passed to the
        functions for them; when `keep` returns true, nothing comes after that."""
        for message in self.messages():
            kind = message.get("type")
            if kind == "run":
                yield Order(message["file"], *(message.get(key) or None for key in ("tests", "only", "except")))
            elif kind == "keep" and keep and keep():
                return
            elif kind == "renew" and renew:
                renew(message)

    def end_stray(self, status=0):
        """Ends this process, exit handlers left out, if a test forked it and let it come back from there."""
        if process_id() != self.speaker:
            os._exit(status)


def result(outcome, message="", details=""):
    return {"outcome": outcome, "message": one_line(message), "details": cut(details)}


def digest_of_ids(ids):
    """The same for the same ids, in whatever order."""
    return hashlib.sha256("\n".join(sorted(ids)).encode("utf-8")).hexdigest()


def one_line(text):
    lines = [line for line in clean(text).splitlines() if line.strip()]
    line = lines[0].strip() if lines else ""
    return line if len(line) <= LONGEST_MESSAGE else line[:LONGEST_MESSAGE] + "…"


def cut(text):
    text = clean(text)
    if len(text) <= LONGEST_DETAILS:
        return text
    half = LONGEST_DETAILS // 2
    return "{}\n[… {} characters left out …]\n{}".format(text[:half], len(text) - 2 * half, text[-half:])


def clean(text):
    """Text that can be written as UTF-8: lone surrogates become escapes."""
    return str(text).encode("utf-8", "backslashreplace").decode("utf-8")


# ---------------------------------------------------------------------------------------------------------------------
# Work


class Unable(Exception):
    """Why the framework does not work here for this project."""

    def __init__(self, message, hint, details=""):
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.details = details


class Worker:
    """What the agent started: runs the files it is sent, each in a fork, or all in one process of their own."""

    def __init__(self, framework):
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(write_through=True, errors="backslashreplace")
        self.isolation = os.environ.pop("DISTRIBUTEST_ISOLATION", "fork")
        self.may_stay = os.environ.pop("DISTRIBUTEST_MAY_STAY", "0") == "1"
        self.forks = self.isolation == "fork"
        self.agent = Agent(int(os.environ.pop("DISTRIBUTEST_FD")), framework)
        self.supervisor = Supervisor(self.agent)
        self.random_state = random.getstate()
        self.witness = None
        self.loading = Loading() if self.forks else None

    def start(self, work):
        """Has `work()` done, which loads the project and calls `serve`, in the process where that belongs."""
        if self.forks:
            self.work_or_give_up(work)
        else:
            # The supervisor has loaded nothing yet: the child is as good as a process of its own.
            self.report_end(self.supervisor.run(lambda witness: self.work_under(witness, work)))

    def work_under(self, witness, work):
        self.witness = witness
        self.loading = Loading() if self.may_stay else None
        self.work_or_give_up(work)

    def work_or_give_up(self, work):
        try:
            work()
        except Unable as reason:
            sys.stderr.write(reason.details)
            self.agent.send(type="unable", message=one_line(reason.message), hint=reason.hint)

    def serve(self, prepared):
        """Runs files until the agent has no more."""
        if self.forks:
            self.serve_by_forking(prepared)
        elif self.loading is None:
            self.agent.ready(prepared.version)
            self.run_files(prepared)
        else:
            self.serve_and_stay(prepared)

    def serve_by_forking(self, prepared):
        project_seeded_random = random.getstate() != self.random_state
        warn_of_threads()
        freeze()
        staying = Staying(self.agent, self.loading, prepared)
        staying.ready()

        def run_file(witness, order):
            begin_own_life(project_seeded_random)
            witness.finish(prepared.run(order, witness, self.agent), prepared.advice)

        for order in self.agent.orders(staying.keep, staying.renew):
            end = self.supervisor.run(lambda witness: run_file(witness, order), order.file)
            while end.is_to_be_repeated():
                prepared.heed(end.advice)
                end = self.supervisor.run(lambda witness: run_file(witness, order), order.file)
            if end.result is None:
                self.supervisor.report_death(end)
            else:
                self.agent.finished(end.final_result())
            prepared.heed(end.advice)
        self.close(prepared)

    def serve_and_stay(self, prepared):
        """Runs all files of a run in one fork, if that is as good as this process, which stays as it is for the next run."""
        staying = Staying(self.agent, self.loading, prepared)
        reason = staying.reason_not_to_fork()
        if reason is not None:
            staying.ready()
            self.run_files(prepared, lambda: staying.refuse(reason))
            return
        project_seeded_random = random.getstate() != self.random_state
        freeze()
        faulthandler.unregister(STACKS_SIGNAL)
        self.witness.begin_watch()

        def run_files(witness):
            begin_own_life(project_seeded_random)
            self.witness = witness
            self.run_files(prepared, lambda: True)

        staying.ready()
        while True:
            end = self.supervisor.run(run_files)
            self.report_end(end)
            if not end.stays:
                return
            staying.keep()
            message = next(self.agent.messages(), None)
            if message is None:
                return
            staying.renew(message)

    def run_files(self, prepared, keep=None):
        """Runs files in this process."""
        is_used = is_kept = False

        def stay():
            nonlocal is_kept
            is_kept = keep()
            return is_kept

        for order in self.agent.orders(stay if keep else None):
            self.witness.begin(order.file)
            meter = Meter()
            try:
                prepared = prepared.renew(order) if is_used else prepared
                is_used = True
                outcome = prepared.run(order, self.witness, self.agent)
                while outcome is None:
                    prepared.heed(prepared.advice)
                    outcome = prepared.run(order, self.witness, self.agent)
            except Unable as reason:
                outcome = result("broken", reason.message, reason.details)
            self.witness.clear()
            self.agent.finished({**outcome, **meter.read()})
        self.witness.begin_end(is_kept)
        self.close(prepared)

    def report_end(self, end):
        """Tells how a process ended that ran many files, unless it did so in order."""
        if end.during is not None:
            end.usage = {}  # that of all its files
            self.supervisor.report_death(end)
        elif end.while_ending and end.status != 0:
            self.agent.end_failed("behind the last file, the process that ran the files {}".format(end.how()))

    def close(self, prepared):
        for message in prepared.close():
            self.agent.end_failed(message)


def load_ahead(modules):
    """Loads modules that every forked process would load."""
    for module in modules:
        # One that can't be loaded here is loaded where it is needed, as before.
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    freeze()


def freeze():
    """Objects made so far are not looked at again by the garbage collectors of the forked processes."""
    gc.collect()
    gc.freeze()


def work_and_leave(work):
    """Does the work and ends the process, running the exit handlers the work has registered."""
    own_pid = process_id()
    status = 1
    try:
        work()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    if process_id() == own_pid:
        try:
            atexit._run_exitfuncs()
        except BaseException:
            # Before Python 3.10 the last error comes out; as at any end of Python, it does not count.
            traceback.print_exc()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(Exception):
            stream.flush()
    os._exit(status)


def begin_own_life(project_seeded_random):
    """Parts a forked process from its parent in what two processes should not share."""
    # Exit handlers registered so far are the parent's: it runs them once, when it ends. A directory one of them
    # removes is still needed by the next file. The standard library's own are for every process.
    atexit._clear()
    for finalizer in list(weakref.finalize._registry):
        finalizer.atexit = False
    atexit.register(weakref.finalize._exitfunc)
    atexit.register(logging.shutdown)
    multiprocessing_util = sys.modules.get("multiprocessing.util")
    if multiprocessing_util is not None:
        atexit.register(multiprocessing_util._exit_function)
    atexit.register(finish_coverage)
    # Files on different runners must not draw the same "random" names. A project that seeds wants the same numbers.
    if not project_seeded_random:
        random.seed()


def finish_coverage():
    """Saves what coverage.py, started with the interpreter, has measured in this process: its own handler is gone."""
    coverage = sys.modules.get("coverage")
    current = coverage.Coverage.current() if coverage is not None else None
    if current is not None:
        current.stop()
        current.save()


def warn_of_threads():
    others = [thread.name for thread in threading.enumerate() if thread is not threading.main_thread()]
    if others:
        sys.stderr.write(
            "distributest: loading the project started threads ({}), which do not exist in the forked processes that "
            'run the test files; if tests need them, set isolation = "process"\n'.format(", ".join(others))
        )


def forget_own_directory():
    """Takes the directory this file lies in off the import path, where Python put it."""
    if sys.path and os.path.realpath(sys.path[0] or ".") == os.path.dirname(os.path.realpath(__file__)):
        del sys.path[0]


# ---------------------------------------------------------------------------------------------------------------------
# Finding Python

# The places in the order they are looked at: up to conda's by the agent, then here, then PATH by the agent.
PYTHON_PLACES = (
    "$VIRTUAL_ENV, $UV_PROJECT_ENVIRONMENT, .venv, venv, $CONDA_PREFIX, Poetry's and Pipenv's environments of this "
    "directory, python3 and python in PATH"
)


def use_project_python():
    """Goes on in the environment Poetry or Pipenv made for the current directory, unless this is an environment already."""
    in_conda = os.environ.get("CONDA_PREFIX") == sys.prefix and os.environ.get("CONDA_DEFAULT_ENV") != "base"
    if sys.prefix != sys.base_prefix or in_conda:
        return
    for environment in poetry_environments() + pipenv_environments():
        python = os.path.join(environment, "bin", "python")
        # What has this file is an environment, and does not come here again.
        if os.access(python, os.X_OK) and os.path.isfile(os.path.join(environment, "pyvenv.cfg")):
            os.execv(python, [python, os.path.abspath(__file__)] + sys.argv[1:])


def poetry_environments():
    """Where Poetry keeps environments it made for the current directory; the one made last comes first."""
    try:
        with open("pyproject.toml", encoding="utf-8") as file:
            text = file.read()
    except OSError:
        return []
    if "poetry" not in text and not os.path.exists("poetry.lock"):
        return []
    cache = os.environ.get("POETRY_CACHE_DIR") or os.path.join(cache_home(), "pypoetry")
    directory = os.environ.get("POETRY_VIRTUALENVS_PATH") or os.path.join(cache, "virtualenvs")
    named = re.search(r"""^name\s*=\s*["']([^"']+)["']""", text, re.MULTILINE)
    name = re.sub(r"[-_.]+", "-", named.group(1)).lower() if named else "non-package-mode"
    begin = "{}-{}-py".format(name[:42], digest(os.path.realpath("."))[:8])
    found = [os.path.join(directory, entry) for entry in entries(directory) if entry.startswith(begin)]
    return sorted(found, key=os.path.getmtime, reverse=True)


def pipenv_environments():
    """Where Pipenv keeps the environment it made for the current directory."""
    if not os.path.isfile("Pipfile"):
        return []
    data = os.environ.get("XDG_DATA_HOME") or os.path.expanduser("~/.local/share")
    directory = os.path.expanduser(os.environ.get("WORKON_HOME") or os.path.join(data, "virtualenvs"))
    name = re.sub(r'[ &$`!*@"()\[\]\\\r\n\t]', "_", os.path.basename(os.getcwd()))[:42]
    ours = "{}-{}".format(name, digest(os.path.join(os.getcwd(), "Pipfile"))[:8])
    custom = os.environ.get("PIPENV_CUSTOM_VENV_NAME")
    return [os.path.join(directory, custom or ours)]


def cache_home():
    return os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")


def digest(text):
    return base64.urlsafe_b64encode(hashlib.sha256(os.fsencode(text)).digest()).decode("ascii")


def entries(directory):
    try:
        return os.listdir(directory)
    except OSError:
        return []
