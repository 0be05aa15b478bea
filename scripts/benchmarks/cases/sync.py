"""The project's way to the hosts: 5,000 files, 50 MB, beside plain rsync over warm masters."""

from dataclasses import replace
from functools import partial

import trees
from lab import lab, verb
from measure import Goal, Measurement

RSYNC = "rsync -a --delete -e warm-ssh tree/ $host:tree/"
REACH = {"cold": 1.05, "unchanged": 0.3, "10 files changed": 0.6}


def measurements(bench):
    files = bench.size(5000, 200)
    with lab(bench, bench.size(4, 2)) as hosts:
        every = hosts.hosts
        # A test for each host, which takes longer than the slowest host needs to be ready for its own.
        trees.write(hosts, "tree", files, bench.size(50_000_000, 200_000), len(every), bench.size("sleep 8", "sleep 3"))
        for hosts.hosts in (every[:1], every):
            hosts.configure(runners=1)
            before = {
                "cold": partial(remove_copies, hosts),
                "unchanged": lambda: None,
                "10 files changed": partial(trees.change, hosts, "tree", files, 10),
            }
            for state, limit in REACH.items():
                yield Measurement(
                    f"sync: {files} files, {state}, {len(hosts.hosts)} host{'s' * (len(hosts.hosts) > 1)} at once",
                    [ours(hosts, before[state]), hosts.peer("rsync", hosts.at_once(RSYNC), before=before[state])],
                    [Goal("distributest", limit, ["rsync"])],
                )


def ours(hosts, before):
    """Until the last host has begun with its test: with the connection, the agent's greeting and the runner's start."""
    count = len(hosts.hosts)
    variant = hosts.distributest("distributest", "tree", count, [f"check_{number}.sh" for number in range(count)])
    passed = variant.check

    def check(run):
        passed(run)
        run.expect(len(starts(hosts)) == count, "a host was ready too late for its test")

    return replace(variant, before=before, check=check, value=lambda _: max(starts(hosts).values()))


def starts(hosts):
    """When each host began with its first test, in seconds from the command's start."""
    events = [event for event in hosts.events() if event["event"] == "attempt_started"]
    return {event["host"]: event["at"] for event in reversed(events)}


def remove_copies(hosts):
    for host in hosts.hosts:
        verb("as", host, "dev", "rm", "-rf", "tree", ".cache/distributest/workspaces")
