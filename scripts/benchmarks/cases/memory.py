"""The resident agent's memory, at rest and with 16 runs at once."""

import agents
import sleepers
from lab import lab
from measure import Goal, Measurement

RUNS = 16


def measurements(bench):
    with lab(bench, 1) as hosts:
        hosts.configure(runners=1)
        sleepers.write(hosts, "project", [bench.size(6.0, 3.0)])
        # Each run is a project of its own, as those of several people are.
        hosts.laptop("bash", "-euc", f"for number in $(seq {RUNS}); do cp -r project project.$number; done")
        start = "for number in $(seq {}); do distributest --quiet --project project.$number & done; wait"
        at_rest = hosts.peer("at rest", "true", value=lambda _: agents.resident_bytes(hosts, "h1"))
        before = at_rest.before = lambda: hosts.on("h1", "sudo", "systemctl", "restart", "runner-agent")
        watch = agents.Watch(lambda: agents.own_bytes(hosts, "h1"), pause=0.2)
        busy = hosts.peer(f"{RUNS} runs", start.format(RUNS), before=before, value=lambda _: watch.most)
        run = busy.run
        busy.run = lambda: watch.during(run)
        busy.also["each further run"] = lambda _: (watch.most - agents.own_bytes(hosts, "h1")) / RUNS
        busy.also["at rest after them"] = lambda _: agents.resident_bytes(hosts, "h1")
        yield Measurement(
            "memory: the resident agent's processes",
            [at_rest, busy],
            [Goal("at rest", 5 * 2**20), Goal("at rest after them", 5 * 2**20), Goal("each further run", 2**20)],
            unit="B",
        )
