"""A process to run tests in, for every worker program in Python.

Stands behind `python_worker.py`. `Supervisor` forks it, watches it, and ends it when the agent goes away. What must survive
its death is in a `Witness`: four unnamed files, open in both processes, with what it was doing, with output it had captured
but not written yet, and with its stacks where the agent has asked for them. So a test that kills its process is named, and
its last words are in the log.
"""


class Witness:
    """What stays of a process that runs tests when it dies: what it was doing, and output nobody has written yet.

    Four unnamed files, open in the process that runs tests and in its parent.
    """

    def __init__(self):
        self.writer = process_id()
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

    def begin_watch(self):
        self.write(watches=True)

    def begin_end(self, stays):
        self.write(ending=True, stays=stays)

    def finish(self, outcome, advice):
        self.write(result=outcome, advice=advice)

    def write(self, **notes):
        if process_id() != self.writer:
            return
        text = to_json(notes).encode("ascii")
        os.pwrite(self.notes.fileno(), text, 0)
        os.ftruncate(self.notes.fileno(), len(text))

    def read(self):
        text = read_all(self.notes.fileno())
        try:
            return from_json(text) if text else {}
        except ValueError:
            return {}

    def note_stacks_when_asked(self):
        """Done by a handler in C, so that it works whatever the process is stuck in."""
        faulthandler.register(STACKS_SIGNAL, file=self.stacks, all_threads=True, chain=False)

    def replay(self, descriptor, data):
        """Writes captured output where it would have gone."""
        if process_id() == self.writer:
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
        self.stays = notes.get("stays", False)

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
            self.agent.speaker = witness.writer = process_id()
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            witness.note_stacks_when_asked()
            os.close(wake_up)
            os.close(wake_up_sender)
            work_and_leave(lambda: work(witness))
        status, usage = self.wait(wake_up, witness)
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

    def wait(self, wake_up, witness):
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
                    self.told_to_end = signal.SIGKILL
                    # A process that watches over one of its own ends that one, and then itself.
                    if not witness.read().get("watches"):
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


