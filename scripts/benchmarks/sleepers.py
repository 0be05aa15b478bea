"""Suites whose files sleep: how long the work takes does not depend on how busy this machine is with itself.

A file sleeps as many seconds as stand in it, once for each word in ~/pace on its host.
"""

import random
import shlex

from lab import verb

COMMAND = """#!/bin/sh
read -r seconds <"$1"
read -r pace <~/pace
shift
for _ in $pace; do set -- "$@" "$seconds"; done
exec sleep "$@"
"""


def log_normal(count, median, longest):
    """Durations, the same every time: many short ones, a few long ones, the longest as said; in no order."""
    chance = random.Random(count)
    durations = [min(chance.lognormvariate(0, 1.2) * median, longest) for _ in range(count)]
    durations[chance.randrange(count)] = longest
    return durations


def write(lab, name, durations):
    """The project on the laptop and on the hosts, with lists of its files in their order and slowest first."""
    project = lab.project(name)
    files = [f"sleep_{number:03}.txt" for number in range(len(durations))]
    for file, seconds in zip(files, durations):
        (project / file).write_text(f"{seconds:.3f}\n")
    (project / "run").write_text(COMMAND)
    (project / "run").chmod(0o755)
    (project / ".distributest").mkdir()
    (project / ".distributest/config.toml").write_text('files = ["*.txt"]\ncommand = "./run {file}"\n')
    slowest_first = [file for _, file in sorted(zip(durations, files), reverse=True)]
    (lab.home / f"{name}.in-order").write_text("".join(f"{file}\n" for file in files))
    (lab.home / f"{name}.slowest-first").write_text("".join(f"{file}\n" for file in slowest_first))
    lab.own()
    lab.copy_to_hosts(name)
    for host in lab.hosts:
        set_pace(host, 1)


def parallel(lab, project, order, runners, count):
    """GNU parallel over warm masters."""
    logins = ",".join(f"{runners}/{host}" for host in lab.hosts)
    command = f"parallel --will-cite --ssh warm-ssh -S {logins} --joblog joblog -a {project}.{order}"

    def complete(_):
        lines = (lab.home / "joblog").read_text().splitlines()[1:]
        return [line.split("\t")[6] for line in lines] == ["0"] * count

    return lab.peer(
        f"GNU parallel, {order.replace('-', ' ')}", f"{command} {shlex.quote(f'cd {project} && ./run {{}}')}", complete
    )


def set_pace(host, pace):
    """How many times as long files take on a host from now on."""
    verb("as", host, "dev", "sh", "-c", f"echo {'x ' * pace} >pace")


def bound(durations, runners, slowness=(1.0,)):
    """The least any schedule can take: hosts are as many times slower as `slowness` says, one number for each."""
    speed = sum(runners / times for times in slowness)
    return max(sum(durations) / speed, max(durations) * min(slowness))
