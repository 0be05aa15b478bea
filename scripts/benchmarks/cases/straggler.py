"""One of four hosts freezes for 20 s in the tail of a run."""

import dataclasses
import threading

import sleepers
from lab import lab, verb
from measure import Goal, Measurement

RUNNERS = 4


def measurements(bench):
    with lab(bench, bench.size(4, 2)) as hosts:
        hosts.configure(RUNNERS)
        # Many files: the host freezes with short ones at work.
        tail = sleepers.log_normal(*bench.size((400, 0.15, 1.5), (24, 0.05, 0.5)))
        yield measurement(hosts, bench, "tail", tail, [Goal("frozen", 1.3, ["undisturbed"])])
        # One file takes as long as everything. If the host has it, it has to be run again from its start, so no run can
        # end sooner than the time of the freeze and the file together: 1.75 times the undisturbed one.
        longest = sleepers.log_normal(*bench.size((120, 0.15, 6), (12, 0.05, 2)))
        yield measurement(hosts, bench, "longest", longest, [])


def measurement(hosts, bench, name, durations, goals):
    bound = sleepers.bound(durations, RUNNERS, [1.0] * len(hosts.hosts))
    project = f"straggler-{name}"
    sleepers.write(hosts, project, durations)
    undisturbed = hosts.distributest("undisturbed", project, len(durations))
    frozen = hosts.distributest("frozen", project, len(durations))
    frozen = dataclasses.replace(frozen, run=freezing(hosts.hosts[0], 0.75 * bound, bench.size(20, 3), frozen.run))
    return Measurement(
        f"straggler, {name}: {len(durations)} files, {len(hosts.hosts)} hosts × {RUNNERS} runners, "
        f"one frozen {0.75 * bound:.1f} s after the start",
        [undisturbed, frozen],
        goals,
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
