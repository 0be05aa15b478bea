"""One of four hosts freezes for 20 s in the tail of a run."""

import dataclasses
import threading

import sleepers
from lab import lab, verb
from measure import Goal, Measurement

RUNNERS = 4


def measurements(bench):
    with lab(bench, bench.size(4, 2)) as hosts:
        durations = sleepers.log_normal(*bench.size((120, 0.15, 6), (12, 0.05, 2)))
        bound = sleepers.bound(durations, RUNNERS, [1.0] * len(hosts.hosts))
        hosts.configure(RUNNERS)
        sleepers.write(hosts, "straggler", durations)
        undisturbed = hosts.distributest("undisturbed", "straggler", len(durations))
        frozen = hosts.distributest("frozen", "straggler", len(durations))
        frozen = dataclasses.replace(frozen, run=freezing(hosts.hosts[0], 0.75 * bound, bench.size(20, 3), frozen.run))
        yield Measurement(
            f"straggler: {len(durations)} files, {len(hosts.hosts)} hosts × {RUNNERS} runners, "
            f"one frozen {0.75 * bound:.1f} s after the start",
            [undisturbed, frozen],
            [Goal("frozen", 1.3, ["undisturbed"])],
        )


def freezing(host, after, seconds, run):
    """The run, while the host stands still for so many seconds; thawed before anything else happens."""

    def disturbed():
        freeze, thaw = (threading.Timer(when, verb, (what, host)) for when, what in ((after, "freeze"), (after + seconds, "thaw")))
        freeze.start()
        thaw.start()
        try:
            return run()
        finally:
            freeze.join()
            thaw.join()

    return disturbed
