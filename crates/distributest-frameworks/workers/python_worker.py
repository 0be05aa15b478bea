"""What every worker program in Python needs: the conversation with the agent, and a process to run tests in.

A worker program is this file, `python_loading.py` and the one of its framework, as one text (see proto/worker.md); nothing in it
is imported by tests.

How it works. Tests run in a child process that `Supervisor` forks, watches, and ends when the agent goes away. What must
survive that child's death is in a `Witness`: four unnamed files, open in both processes, with what the child was
doing, with output it had captured but not written yet, and with its stacks where the agent has asked for them. So a test that kills its process is named, and its last
words are in the log.

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
        self.speaker = os.getpid()
        self.socket = socket.socket(fileno=descriptor)
        self.incoming = self.socket.makefile("rb")

    def send(self, **message):
        if os.getpid() != self.speaker:
            return
        try:
            self.socket.sendall(json.dumps(message).encode("ascii") + b"\n")
        except OSError:
            # The agent is gone, and with it everyone who wants to know how this ends.
            os._exit(1)

    def ready(self, version, keeps=False):
        self.send(
            type="ready", protocol=PROTOCOL, framework=self.framework, version=version, runtime=runtime(), keeps=keeps
        )

    def finished(self, result):
        self.send(type="finished", **result)

    def end_failed(self, message):
        self.send(type="end_failed", message=one_line(message))

    def end_line(self):
        """Ends the line that a process which is dead now may have been in the middle of."""
        with contextlib.suppress(OSError):
            self.socket.sendall(b"\n")

    def orders(self, others=None):
        """What to run, file by file, until the agent has no more or is gone. `others` are functions that take other
        messages, by their types."""
        while True:
            self.end_stray()
            line = self.incoming.readline()
            if not line:
                return
            message = json.loads(line) if line.strip() else {}
            kind = message.get("type")
            if kind == "quit":
                return
            if kind == "run":
                yield Order(message["file"], *(message.get(key) or None for key in ("tests", "only", "except")))
            elif others and kind in others:
                others[kind](message)

    def end_stray(self, status=0):
        """Ends this process, exit handlers left out, if a test forked it and let it come back from there."""
        if os.getpid() != self.speaker:
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
# Processes


class Witness:
    """What stays of a process that runs tests when it dies: what it was doing, and output nobody has written yet.

    Four unnamed files, open in the process that runs tests and in its parent.
    """

    def __init__(self):
        self.writer = os.getpid()
        self.captured = {1: tempfile.TemporaryFile(buffering=0), 2: tempfile.TemporaryFile(buffering=0)}
        self.outputs = {1: os.dup(1), 2: os.dup(2)}
        self.notes = tempfile.TemporaryFile(buffering=0)
        self.stacks = tempfile.TemporaryFile(buffering=0)

    def begin(self, file):
        self.write(file=file, test=None)

    def enter_test(self, file, test):
        self.write(file=file, test=test)

    def clear(self):
        self.write()

    def begin_end(self):
        self.write(ending=True)

    def finish(self, outcome, advice):
        self.write(result=outcome, advice=advice)

    def write(self, **notes):
        if os.getpid() != self.writer:
            return
        text = json.dumps(notes).encode("ascii")
        os.pwrite(self.notes.fileno(), text, 0)
        os.ftruncate(self.notes.fileno(), len(text))

    def read(self):
        text = read_all(self.notes.fileno())
        try:
            return json.loads(text) if text else {}
        except ValueError:
            return {}

    def note_stacks_when_asked(self):
        """Done by a handler in C, so that it works whatever the process is stuck in."""
        faulthandler.register(STACKS_SIGNAL, file=self.stacks, all_threads=True, chain=False)

    def replay(self, descriptor, data):
        """Writes captured output where it would have gone."""
        if os.getpid() == self.writer:
            write_all(self.outputs[descriptor], data)

    def close(self):
        """Writes what is left of the captured output where it belongs, and forgets everything."""
        for descriptor, file in self.captured.items():
            write_all(self.outputs[descriptor], read_all(file.fileno()))
            file.close()
        # By the pipe that most output takes, so that they come last.
        write_all(self.outputs[1], innermost_calls(read_all(self.stacks.fileno())))
        for descriptor in self.outputs.values():
            os.close(descriptor)
        self.stacks.close()
        self.notes.close()


class End:
    """How a process that ran tests ended."""

    def __init__(self, status, usage, notes):
        self.status = status
        self.usage = usage
        self.result = notes.get("result")
        self.during = notes.get("file")
        self.advice = notes.get("advice")
        self.test = notes.get("test")
        self.while_ending = notes.get("ending", False)

    def is_to_be_repeated(self):
        return self.result is None and self.advice is not None

    def final_result(self):
        """What the process said of its file, unless it passed it and then left as one that failed."""
        final = self.result
        if self.status != 0 and final["outcome"] == "passed":
            final = result("failed", "no test failed, but the process running this file {}".format(self.how()))
        return {**final, **self.usage}

    def death(self):
        """What there is to say of a file whose process died."""
        number = {"signal": os.WTERMSIG(self.status)} if os.WIFSIGNALED(self.status) else {}
        return {**result("crashed", self.describe()), **self.usage, **number}

    def how(self):
        if os.WIFSIGNALED(self.status):
            number = os.WTERMSIG(self.status)
            try:
                return "died of signal {} ({})".format(number, signal.Signals(number).name)
            except ValueError:
                return "died of signal {}".format(number)
        return "left with exit status {}".format(os.WEXITSTATUS(self.status))

    def describe(self):
        where = "while {} ran".format(self.test["id"]) if self.test else "before its tests were done"
        return "the process running this file {} {}".format(self.how(), where)


def used(processor_seconds, peak_memory_bytes):
    return {"processor_seconds": processor_seconds, "peak_memory_bytes": peak_memory_bytes}


class Meter:
    """What this process uses from now on, with the children it waits for: a process that runs many files.

    The most memory it had is told anew from now on, where the kernel can do that; otherwise it is not known.
    """

    def __init__(self):
        self.before = self.processor_time()
        try:
            with open("/proc/self/clear_refs", "w") as clear:
                clear.write("5")
            self.knows_memory = True
        except OSError:
            self.knows_memory = False

    def read(self):
        processor = self.processor_time() - self.before
        peak = self.peak_memory() if self.knows_memory else None
        return {"processor_seconds": processor} if peak is None else used(processor, peak)

    @staticmethod
    def processor_time():
        usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        return sum(usage.ru_utime + usage.ru_stime for usage in usages)

    @staticmethod
    def peak_memory():
        try:
            with open("/proc/self/status") as status:
                lines = [line.split() for line in status if line.startswith("VmHWM:")]
        except OSError:
            return None
        return int(lines[0][1]) * 1024 if lines else None


class Supervisor:
    """Forks a process, waits for it, and ends it when the agent goes away."""

    def __init__(self, agent):
        self.agent = agent
        self.told_to_end = None  # by this signal
        self.child = None

    def run(self, work, file=None):
        """Has `work(witness)` done in a forked process that leads a session of its own, and tells how it ended."""
        witness = Witness()
        if file is not None:
            witness.begin(file)
        wake_up, wake_up_sender = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.signal(signal.SIGTERM, lambda number, frame: self.end_child(signal.SIGTERM))
        signal.set_wakeup_fd(wake_up_sender, warn_on_full_buffer=False)
        self.child = os.fork()
        if self.child == 0:
            os.setsid()
            self.agent.speaker = witness.writer = os.getpid()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            witness.note_stacks_when_asked()
            os.close(wake_up)
            os.close(wake_up_sender)
            work_and_leave(lambda: work(witness))
        status, usage = self.wait(wake_up)
        self.child = None
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.close(wake_up)
        os.close(wake_up_sender)
        end = End(status, usage, witness.read())
        witness.close()
        if self.told_to_end == signal.SIGTERM:
            self.report_test(end)
        if self.told_to_end:
            sys.exit(1)
        return end

    def wait(self, wake_up):
        poll = select.poll()
        poll.register(wake_up, select.POLLIN)
        poll.register(self.agent.socket, 0)  # reports nothing but the other end's going away
        while True:
            pid, status, usage = os.wait4(self.child, os.WNOHANG)
            if pid:
                return status, used(usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024)
            for descriptor, _ in poll.poll():
                if descriptor == wake_up:
                    with contextlib.suppress(BlockingIOError):
                        os.read(wake_up, 512)
                else:
                    self.end_child(signal.SIGKILL)
                    poll.unregister(self.agent.socket)

    def end_child(self, number):
        self.told_to_end = number
        if self.child is None:
            return
        for kill in (os.killpg, os.kill):
            # It leads its process group, unless it had no time yet to become the leader.
            with contextlib.suppress(ProcessLookupError):
                kill(self.child, number)

    def report_death(self, end):
        self.report_test(end)
        self.agent.finished(end.death())

    def report_test(self, end):
        """Reports the test the process died in."""
        self.agent.end_line()
        if end.test:
            self.agent.send(type="test", status="error", seconds=0, message=end.describe(), details="", **end.test)


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
            return
        # The supervisor has loaded nothing yet: the child is as good as a process of its own.
        death = self.supervisor.run(lambda witness: self.work_under(witness, work))
        if death.during is not None:
            death.usage = {}  # that of all its files
            self.supervisor.report_death(death)
        elif death.while_ending and death.status != 0:
            self.agent.end_failed("behind the last file, the process that ran the files {}".format(death.how()))

    def work_under(self, witness, work):
        self.witness = witness
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
        else:
            self.serve_in_this_process(prepared)

    def serve_by_forking(self, prepared):
        project_seeded_random = random.getstate() != self.random_state
        warn_of_threads()
        freeze()
        self.agent.ready(prepared.version, keeps=True)

        def keep(_):
            reason = self.loading.reason_to_leave() or prepared.reason_to_leave()
            if reason is not None:
                self.agent.send(type="unable", message=reason)
                return
            files = self.loading.files() + prepared.depends_on()
            self.agent.send(type="kept", files=files, all=self.loading.is_all())

        def renew(message):
            for variable in message["environment"]:
                name, is_set, value = variable.partition("=")
                if is_set:
                    os.environ[name] = value
                else:
                    os.environ.pop(name, None)
            self.agent.ready(prepared.version, keeps=True)

        def run_file(witness, order):
            begin_own_life(project_seeded_random)
            witness.finish(prepared.run(order, witness, self.agent), prepared.advice)

        for order in self.agent.orders({"keep": keep, "renew": renew}):
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

    def serve_in_this_process(self, prepared):
        self.agent.ready(prepared.version)
        is_used = False
        for order in self.agent.orders():
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
        self.witness.begin_end()
        self.close(prepared)

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
    own_pid = os.getpid()
    status = 1
    try:
        work()
        status = 0
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 1
    except BaseException:
        traceback.print_exc()
    if os.getpid() == own_pid:
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


def read_all(descriptor):
    """Everything in a file, wherever its offset stands, which is left alone."""
    parts = []
    offset = 0
    while True:
        part = os.pread(descriptor, 1024 * 1024, offset)
        if not part:
            return b"".join(parts)
        parts.append(part)
        offset += len(part)


def write_all(descriptor, data):
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def innermost_calls(stacks):
    """What faulthandler wrote, without the calls by which each thread got near to where it is."""
    told = []
    for thread in filter(None, stacks.decode("utf-8", "replace").split("\n\n")):
        calls = thread.rstrip("\n").split("\n")
        hidden = len(calls) - 1 - SHOWN_CALLS
        more = ["  … called by {} more".format(hidden)] if hidden > 0 else []
        told += calls[: 1 + SHOWN_CALLS] + more
    return "".join(line + "\n" for line in told).encode("utf-8", "replace")


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
