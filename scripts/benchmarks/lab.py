"""The lab: several hosts on this machine, used from its laptop by the user dev.

The peers get what their users would set up: connections that are there already (a warm ssh master for each host).
"""

import contextlib
import json
import pathlib
import shlex
import shutil
import subprocess

from bench import HERE
from measure import Run, Variant

HOME = pathlib.Path("/mnt/dev")
"""The user's home as the laptop sees it; LAB_LAPTOP/dev here."""

WARM = """Include ~/.ssh/config
Host *
  ControlMaster auto
  ControlPath ~/.ssh/warm-%h
  ControlPersist yes
"""


@contextlib.contextmanager
def lab(bench, hosts):
    """A lab with that many hosts, as long as it is needed."""
    try:
        said = verb("up", bench.program, hosts, output=True)
        variables = dict(word.split("=", 1) for word in shlex.split(said))
        yield Lab(pathlib.Path(variables["LAB_LAPTOP"]), variables["LAB_HOSTS"].split())
    finally:
        verb("down")


def verb(*words, output=False):
    command = [HERE / "lab", *map(str, words)]
    return subprocess.run(command, check=True, text=True, stdout=subprocess.PIPE if output else None).stdout


class Lab:
    """A lab that is up."""

    def __init__(self, disk, hosts):
        self.name = disk.parent.name
        self.hosts = hosts
        self.home = disk / "dev"
        shutil.copy(HERE / "stopwatch.py", disk / "bin")
        (self.home / ".ssh/warm").write_text(WARM)
        (disk / "bin/warm-ssh").write_text('#!/bin/sh\nexec ssh -F ~/.ssh/warm "$@"\n')
        (disk / "bin/warm-ssh").chmod(0o755)
        for host in hosts:
            self.laptop("warm-ssh", host, "true")

    def own(self):
        """What was written to the user's home here becomes the user's."""
        subprocess.run(["chown", "-R", f"--reference={self.home / '.ssh'}", self.home], check=True)

    def laptop(self, *words):
        """Runs a command there, unmeasured, which must succeed."""
        verb("laptop", "dev", *words)

    def on(self, host, *words):
        """Runs a command as the user on a host, unmeasured."""
        return verb("as", host, "dev", *words, output=True)

    def project(self, name):
        """A new directory in the user's home."""
        path = self.home / name
        path.mkdir()
        return path

    def copy_to_hosts(self, name):
        """The project in the user's home on every host, where the peers need it."""
        for host in self.hosts:
            self.laptop("rsync", "-a", "-e", "warm-ssh", "--delete", f"{name}/", f"{host}:{name}/")

    def command(self, words, directory=""):
        """What runs a command on the laptop, measured there."""
        words = [str(word) for word in words]

        def run():
            said = verb(
                "laptop", "dev", "env", "-C", HOME / directory, "python3", "/mnt/bin/stopwatch.py", HOME / "output", *words,
                output=True,
            )
            output = (self.home / "output").read_text(errors="replace")
            return Run(**json.loads(said), output=output)

        return run

    def peer(self, name, script, check=lambda output: True, **more):
        """Another way to do the work: a shell's script, in the user's home."""

        def complete(run):
            run.expect(run.status == 0 and check(run.output), "the run is not complete")

        return Variant(name, self.command(["bash", "-euc", script]), complete, **more)

    def configure(self, runners):
        """So many runners on each host, none on the laptop."""
        path = self.home / ".config/distributest"
        path.mkdir(parents=True, exist_ok=True)
        entries = "".join(f'[[host]]\nname = "{host}"\nrunners = {runners}\n' for host in self.hosts)
        (path / "config.toml").write_text(f"runners = 0\nrequire_hosts = true\n{entries}")
        self.own()

    def distributest(self, name, project, files, arguments=(), **more):
        """This program; all files must have passed, on all hosts, each one once."""
        events = self.home / "events.jsonl"
        command = ["distributest", "--project", HOME / project, "--json", HOME / "events.jsonl", *arguments]

        def check(run):
            run.expect(run.status == 0, "the run failed")
            told = read_events(events)
            decided = [event["file_id"] for event in told if event["event"] == "file_verdict"]
            run.expect(sorted(decided) == list(range(len(told[0]["files"]))), f"{len(decided)} verdicts")
            run.expect(told[-1]["outcomes"]["passed"] == files, f"{told[-1]['outcomes']}")

        return Variant(name, self.command(command), check, **more)

    def events(self):
        """The events of the last run."""
        return read_events(self.home / "events.jsonl")

    def forget(self):
        """Takes away what the program knows of former runs."""
        shutil.rmtree(self.home / ".local/state/distributest", ignore_errors=True)

    def at_once(self, script):
        """A script that does something for all hosts at once; $host is the host."""
        return f"for host in {' '.join(self.hosts)}; do\n( {script} ) &\ndone\nwait_all() {{ for job in $(jobs -p); do wait $job; done; }}\nwait_all"


def read_events(path):
    with path.open(encoding="utf-8") as file:
        return [json.loads(line) for line in file]
