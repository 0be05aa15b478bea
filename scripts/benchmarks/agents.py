"""Memory of the agents' processes on a lab's hosts, as this machine sees them."""

import pathlib
import threading

NAME = "runner-agent"


def processes(lab, host):
    """The directories in /proc of all agents' processes on a host, resident and session."""
    group = f"/distributest-{lab.name}/{host}/"
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text().strip() == NAME and group in (process / "cgroup").read_text():
                yield process
        except OSError:
            pass  # it has ended


def own_bytes(lab, host):
    """What the agent's processes hold; a page that several share is counted once."""
    return sum(number(process / "smaps_rollup", "Pss") for process in processes(lab, host))


def resident_bytes(lab, host):
    """What the agent's processes have in memory, with all that they share with others."""
    return sum(number(process / "status", "VmRSS") for process in processes(lab, host))


def number(path, field):
    """A field of a file in /proc, in bytes; 0 of a process that has ended."""
    try:
        fields = (line.split() for line in path.read_text().splitlines())
        return next((int(words[1]) * 1024 for words in fields if words[0] == f"{field}:"), 0)
    except OSError:
        return 0


class Watch:
    """Looks at something now and then while a run goes on, and remembers the most it saw."""

    def __init__(self, look, pause):
        self.look = look
        self.pause = pause
        self.most = 0
        self.over = threading.Event()

    def during(self, run):
        self.most = 0
        self.over.clear()
        watcher = threading.Thread(target=self.watch)
        watcher.start()
        try:
            return run()
        finally:
            self.over.set()
            watcher.join()

    def watch(self):
        while not self.over.wait(self.pause):
            self.most = max(self.most, self.look())
