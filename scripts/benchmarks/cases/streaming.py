"""Four runners of one host print 500 MB each."""

import pathlib
import threading

from lab import lab
from measure import Goal, Measurement

RUNNERS = 4
AGENT = "runner-agent"


def measurements(bench):
    each = bench.size(500_000_000, 5_000_000)
    with lab(bench, 1) as hosts:
        project = hosts.project("streaming")
        for number in range(RUNNERS):
            (project / f"print_{number}.sh").write_text("cat ~/lines\n")
        (project / ".distributest").mkdir()
        (project / ".distributest/config.toml").write_text('files = ["*.sh"]\ncommand = "sh {file}"\n')
        hosts.configure(RUNNERS)
        hosts.on("h1", "sh", "-c", f"yes 'a line of output such as tests write it, no more' | head -c {each} >lines")
        log = hosts.home / "log"

        ours = hosts.distributest("distributest", "streaming", RUNNERS, ["--log-file", "/mnt/dev/log"])
        whole = ours.check

        def check(run):
            whole(run)
            run.expect(log.stat().st_size > RUNNERS * each, f"the log has {log.stat().st_size} bytes")

        ours.check = check
        cat = hosts.peer(
            "ssh cat",
            "for number in 1 2 3 4; do warm-ssh h1 cat lines >copy.$number & done; wait; ls -l copy.*",
            lambda output: output.count(f" {each} ") == RUNNERS,
        )
        yield Measurement(
            f"streaming: {RUNNERS} runners print {each / 1e6:.0f} MB each",
            [ours, cat],
            [Goal("distributest", 1.25, ["ssh cat"])],
        )
        peaks = Peaks()
        coordinator = hosts.distributest("distributest", "streaming", RUNNERS, value=lambda run: run.peak_bytes)
        run = coordinator.run
        coordinator.run = lambda: peaks.during(run)
        coordinator.also["agent"] = lambda _: peaks.bytes
        yield Measurement(
            f"streaming: memory at its highest, {RUNNERS} runners print {each / 1e6:.0f} MB each",
            [coordinator],
            [Goal("distributest", 64 * 2**20), Goal("agent", 64 * 2**20)],
            unit="B",
        )


class Peaks:
    """The highest resident memory of any agent's process in the lab during a run, looked at ten times a second."""

    def __init__(self):
        self.bytes = 0
        self.over = threading.Event()

    def during(self, run):
        self.bytes = 0
        self.over.clear()
        watcher = threading.Thread(target=self.watch)
        watcher.start()
        try:
            return run()
        finally:
            self.over.set()
            watcher.join()

    def watch(self):
        while not self.over.wait(0.1):
            for process in pathlib.Path("/proc").glob("[0-9]*"):
                self.bytes = max(self.bytes, peak_bytes(process))


def peak_bytes(process):
    try:
        if (process / "comm").read_text().strip() != AGENT:
            return 0
        fields = dict(line.split(":", 1) for line in (process / "status").read_text().splitlines())
        return int(fields["VmHWM"].split()[0]) * 1024
    except (OSError, KeyError):
        return 0  # it has ended
