"""Files of very different length, on four hosts with four runners each: how near to the bound a run comes."""

from dataclasses import replace

import sleepers
from lab import lab
from measure import Goal, Measurement

RUNNERS = 4


def measurements(bench):
    with lab(bench, bench.size(4, 2)) as hosts:
        hosts.configure(RUNNERS)
        for count, limit in ((120, 1.03), (400, 1.10)):
            durations = sleepers.log_normal(*bench.size((count, 0.15, 6), (count // 10, 0.05, 0.5)))
            yield equal_hosts(hosts, durations, limit)
            if limit == 1.03:
                yield from slow_host(hosts, durations)


def equal_hosts(hosts, durations, limit):
    count, project = len(durations), f"skewed-{len(durations)}"
    sleepers.write(hosts, project, durations)
    bound = sleepers.bound(durations, RUNNERS, [1.0] * len(hosts.hosts))
    # Each turn begins without a history, which the second run then has.
    first = hosts.distributest("first run", project, count, before=hosts.forget)
    second = hosts.distributest("second run", project, count)
    second.also["second run, testing only"] = testing_seconds(hosts)
    return Measurement(
        f"skewed: {count} files, {sum(durations):.1f} s of work, {len(hosts.hosts)} hosts × {RUNNERS} runners; "
        f"as a multiple of the bound of {bound:.2f} s",
        [
            as_multiple(variant, bound)
            for variant in (
                first,
                second,
                sleepers.parallel(hosts, project, "slowest-first", RUNNERS, count),
                sleepers.parallel(hosts, project, "in-order", RUNNERS, count),
            )
        ],
        [Goal("first run", 1.35), Goal("second run", limit)],
        unit="×",
    )


def slow_host(hosts, durations):
    """The last host takes three times as long for everything."""
    count, project = len(durations), "unequal"
    sleepers.write(hosts, project, durations)
    bound = sleepers.bound(durations, RUNNERS, [1.0] * (len(hosts.hosts) - 1) + [3.0])
    sleepers.set_pace(hosts.hosts[-1], 3)
    ours = hosts.distributest("distributest", project, count)
    ours.also["distributest, testing only"] = testing_seconds(hosts)
    yield Measurement(
        f"skewed: {count} files, one of {len(hosts.hosts)} hosts at a third of the speed; "
        f"as a multiple of the bound of {bound:.2f} s",
        [
            as_multiple(variant, bound)
            for variant in (ours, sleepers.parallel(hosts, project, "slowest-first", RUNNERS, count))
        ],
        [Goal("distributest", 1.10)],
        unit="×",
    )
    sleepers.set_pace(hosts.hosts[-1], 1)


def testing_seconds(hosts):
    """From the first file's start to the last one's end: without reaching the hosts and copying the project."""
    return lambda _: hosts.events()[-1]["testing_seconds"]


def as_multiple(variant, bound):
    values = {name: lambda run, value=value: value(run) / bound for name, value in variant.also.items()}
    return replace(variant, value=lambda run: variant.value(run) / bound, also=values)
