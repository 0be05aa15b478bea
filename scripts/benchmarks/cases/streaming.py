"""Four runners of one host print 500 MB each."""

import agents
from lab import lab
from measure import Goal, Measurement

RUNNERS = 4


# Lines that differ as those of a log do: what is compressed on its way must not be all the same.
LINES = """
import hashlib, sys

def line(number):
    digest = hashlib.sha256(str(number).encode()).hexdigest()
    when = f"12:{number // 6000 % 60:02}:{number // 100 % 60:02}.{number % 100:02}"
    return f"{when} INFO orders/api.py:{number % 400} request {digest[:12]} took {int(digest[-4:], 16)} us, status 200\\n"

some = "".join(line(number) for number in range(40_000)).encode()
left = int(sys.argv[1])
with open("lines", "wb") as lines:
    while left > 0:
        left -= lines.write(some[:left])
"""


def measurements(bench):
    each = bench.size(500_000_000, 5_000_000)
    with lab(bench, 1) as hosts:
        project = hosts.project("streaming")
        for number in range(RUNNERS):
            (project / f"print_{number}.sh").write_text("cat ~/lines\n")
        (project / ".distributest").mkdir()
        (project / ".distributest/config.toml").write_text('files = ["*.sh"]\ncommand = "sh {file}"\n')
        hosts.configure(RUNNERS)
        hosts.on("h1", "python3", "-c", LINES, each)
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
        watch = agents.Watch(
            lambda: max((agents.number(process / "status", "VmHWM") for process in agents.processes(hosts, "h1")), default=0),
            pause=0.1,
        )
        coordinator = hosts.distributest("distributest", "streaming", RUNNERS, value=lambda run: run.peak_bytes)
        run = coordinator.run
        coordinator.run = lambda: watch.during(run)
        coordinator.also["agent"] = lambda _: watch.most
        yield Measurement(
            f"streaming: memory at its highest, {RUNNERS} runners print {each / 1e6:.0f} MB each",
            [coordinator],
            [Goal("distributest", 64 * 2**20), Goal("agent", 64 * 2**20)],
            unit="B",
        )
