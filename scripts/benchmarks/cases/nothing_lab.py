"""Files that do nothing, on four hosts with two runners each: what a file costs over a network."""

from functools import partial

from lab import lab, verb
from measure import Goal, Measurement

RUNNERS = 2


def measurements(bench):
    count = bench.size(2000, 80)
    with lab(bench, bench.size(4, 2)) as hosts:
        project = hosts.project("nothing")
        names = [f"check_{number}.sh" for number in range(count)]
        for name in names:
            (project / name).write_text("exit 0\n")
        (project / ".distributest").mkdir()
        (project / ".distributest/config.toml").write_text('files = ["*.sh"]\ncommand = "sh {file}"\n')
        (hosts.home / "names").write_text("".join(f"{name}\n" for name in names))
        for number, host in enumerate(hosts.hosts):
            (hosts.home / f"names.{host}").write_text("".join(f"{name}\n" for name in names[number :: len(hosts.hosts)]))
        hosts.configure(RUNNERS)
        hosts.copy_to_hosts("nothing")

        ours = hosts.distributest("distributest", "nothing", count)
        split = hosts.peer(
            "static split",
            hosts.at_once(f'warm-ssh $host "cd nothing && xargs -P{RUNNERS} -n1 sh" <names.$host'),
            lambda output: output == "",
        )
        # Fifty milliseconds a file: a part of them says as much.
        sample = bench.size(400, 20)
        logins = ",".join(f"{RUNNERS}/{host}" for host in hosts.hosts)
        parallel = hosts.peer(
            "GNU parallel",
            f"head -{sample} names | "
            f"parallel --will-cite --ssh warm-ssh -S {logins} --joblog joblog 'cd nothing && sh {{}}'",
            lambda _: all_logged(hosts.home / "joblog", sample),
            scale=count / sample,
        )
        title = f"nothing: {count} files, {len(hosts.hosts)} hosts × {RUNNERS} runners"
        yield Measurement(
            f"{title} (GNU parallel: from {sample} files)",
            [ours, split, parallel],
            [Goal("distributest", 1.25, ["static split"]), Goal("distributest", 0.05, ["GNU parallel"])],
            pieces=count,
        )

        def testing_seconds(_):
            return hosts.events()[-1]["testing_seconds"]

        distances = [
            hosts.distributest(name, "nothing", count, before=partial(delay, hosts, way), value=testing_seconds)
            for name, way in (("0 ms", "off"), ("40 ms", 20))
        ]
        yield Measurement(
            f"{title}: time from first to last, by the round trip to the hosts",
            distances,
            [Goal("40 ms", 1.05, ["0 ms"])],
            pieces=count,
        )


def delay(hosts, milliseconds):
    for host in hosts.hosts:
        verb("delay", host, milliseconds)


def all_logged(path, count):
    lines = path.read_text().splitlines()[1:]
    return [line.split("\t")[6] for line in lines] == ["0"] * count
