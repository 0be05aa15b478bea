"""The project's way to the hosts: 5,000 files, 50 MB, beside plain rsync over warm masters."""

from functools import partial

import trees
from lab import lab, verb
from measure import Goal, Measurement

RSYNC = "rsync -a --delete -e warm-ssh tree/ $host:tree/"
REACH = {"cold": 1.05, "unchanged": 0.3, "10 files changed": 0.6}


def measurements(bench):
    files = bench.size(5000, 200)
    with lab(bench, bench.size(4, 2)) as hosts:
        trees.write(hosts, "tree", files, bench.size(50_000_000, 200_000), tests=1)
        every = hosts.hosts
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
                    [
                        hosts.distributest(
                            "distributest", "tree", 1, before=before[state], value=lambda _: last_synced(hosts)
                        ),
                        hosts.peer("rsync", hosts.at_once(RSYNC), before=before[state]),
                    ],
                    [Goal("distributest", limit, ["rsync"])],
                )


def last_synced(hosts):
    """Seconds from the command's start until the last host had the project."""
    return max(event["at"] for event in hosts.events() if event["event"] == "host_synced")


def remove_copies(hosts):
    for host in hosts.hosts:
        verb("as", host, "dev", "rm", "-rf", "tree", ".cache/distributest/workspaces")
