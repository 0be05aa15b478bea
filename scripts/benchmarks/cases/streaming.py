"""Four runners of one host print 500 MB each."""

import agents
from lab import lab
from measure import Goal, Measurement

RUNNERS = 4


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
