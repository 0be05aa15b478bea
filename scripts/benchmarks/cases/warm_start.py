"""Nothing changed since the last run, four hosts: from entering the command to the first test."""

import trees
from lab import lab
from measure import Goal, Measurement

RUNNERS = 2


def measurements(bench):
    files = bench.size(5000, 200)
    with lab(bench, bench.size(4, 2)) as hosts:
        hosts.configure(RUNNERS)
        tests = len(hosts.hosts) * RUNNERS
        trees.write(hosts, "warm", files, bench.size(50_000_000, 200_000), tests, "date +%s.%N >>~/started")
        ours = hosts.distributest(
            "distributest, to the first test",
            "warm",
            tests,
            before=lambda: take_starts(hosts),
            value=lambda run: min(take_starts(hosts)) - run.began,
        )
        ours.also["distributest, to its end"] = lambda run: run.seconds
        first = hosts.hosts[0]
        no_op = "warm-ssh $host true && rsync -a --delete -e warm-ssh warm/ $host:warm/"
        yield Measurement(
            f"warm start: {files} files, {len(hosts.hosts)} hosts",
            [
                ours,
                hosts.peer("ssh and rsync to one host", f"host={first}; {no_op}"),
                hosts.peer("ssh and rsync to all at once", hosts.at_once(no_op)),
            ],
            [Goal("distributest, to the first test", 0.7, ["ssh and rsync to one host"])],
        )


def take_starts(hosts):
    """When tests started since this was last asked, by the tests themselves: the lab's hosts share a clock."""
    read = "cat started 2>/dev/null; rm -f started"
    return [float(line) for host in hosts.hosts for line in hosts.on(host, "sh", "-c", read).split()]
