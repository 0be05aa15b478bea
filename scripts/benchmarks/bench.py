"""What cases build on: the programs to measure, a scratch directory, and ways to run and check."""

import contextlib
import os
import pathlib
import socket
import sqlite3
import subprocess
import time

import stopwatch
from measure import Run, Variant

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def install(what):
    said = subprocess.run([HERE / "install", what], check=True, stdout=subprocess.PIPE, text=True)
    return said.stdout.splitlines()


class Bench:
    """One invocation of scripts/bench."""

    def __init__(self, program, scratch, smoke):
        self.program = pathlib.Path(program)
        self.scratch = pathlib.Path(scratch)
        self.smoke = smoke
        nextest, self.python = map(pathlib.Path, install("peers"))
        self.environment = os.environ | {
            "PATH": os.pathsep.join([str(self.python / "bin"), str(nextest), os.environ["PATH"]]),
            "VIRTUAL_ENV": str(self.python),
            "DISTRIBUTEST_SYSTEM_DIRECTORY": str(self.directory("system")),
        }
        for name in ("CARGO_TARGET_DIR", "MAKEFLAGS", "PARALLEL_TEST_PROCESSORS", "PYTHONDONTWRITEBYTECODE"):
            self.environment.pop(name, None)

    def size(self, usual, smoke):
        """A number that only has to show that the case works, where that is all that is asked for."""
        return smoke if self.smoke else usual

    def directory(self, *names):
        path = self.scratch.joinpath(*names)
        path.mkdir(parents=True, exist_ok=True)
        return path

    def command(self, command, directory, environment=None):
        """What runs a command on this machine."""
        output = self.scratch / "output"
        words = [str(word) for word in command]

        def run():
            result = stopwatch.run(words, output, directory, self.environment | (environment or {}))
            return Run(**result, output=output.read_text(errors="replace"))

        return run

    def peer(self, name, command, directory, check, environment=None, scale=1.0):
        """Another program; `check` gets what it wrote and must return whether that is the whole work."""

        def complete(run):
            run.expect(run.status == 0 and check(run.output), "the run is not complete")

        return Variant(name, self.command(command, directory, environment), complete, scale=scale)

    def distributest(self, name, arguments, project, files, tests=0, environment=None):
        """This program, on this machine, with a state of its own; every result must be in its history."""
        home = self.directory("homes", name, project.name)
        own = {f"XDG_{kind}_HOME": str(home / kind.lower()) for kind in ("STATE", "CONFIG", "CACHE")}
        command = [self.program, *arguments]

        def check(run):
            run.expect(run.status == 0, "the run failed")
            recorded = recorded_results(home / "state/distributest/history.sqlite")
            run.expect(recorded == (files, tests), f"{recorded} files and tests passed by the history, not {files, tests}")

        return Variant(name, self.command(command, project, own | (environment or {})), check)

    def with_kept_workers(self, name, agent, *arguments):
        """The same with a resident agent, which has kept the workers of the run before; they must be used."""
        variant = self.distributest(name, *arguments, environment=agent)

        def seconds(run):
            run.expect("kept from an earlier run" in run.output, "no worker was kept")
            return run.seconds

        variant.value = seconds
        return variant

    @contextlib.contextmanager
    def resident_agent(self):
        """A resident agent of this user, as long as it is needed, for those with the environment that this yields."""
        home = self.directory("resident")
        path = home / ".cache/distributest/runner-agent.sock"
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        config = home / "agent.toml"
        config.write_text("allow_root = true\nslots = 4\n")
        # It goes with this process, however that ends.
        serve = [self.program.parent / "runner-agent", "serve", "--config", config, "--socket", path]
        command = ["setpriv", "--pdeathsig", "TERM", *serve]
        with subprocess.Popen(command, env=self.environment | {"RUNNER_AGENT_LOG": "warn"}) as agent:
            try:
                wait_until_it_listens(agent, path)
                yield {"HOME": str(home)}
            finally:
                agent.terminate()


def wait_until_it_listens(process, path):
    while True:
        if process.poll() is not None:
            raise SystemExit(f"the agent that should listen at {path} has ended")
        with socket.socket(socket.AF_UNIX) as client, contextlib.suppress(OSError):
            client.connect(str(path))
            return
        time.sleep(0.01)


def recorded_results(history):
    """How many files and how many tests passed in the last run, by the history."""
    connection = sqlite3.connect(f"file:{history}?mode=ro", uri=True)
    try:
        (run,) = connection.execute("SELECT max(id) FROM runs WHERE exit_status = 0").fetchone()
        (files,) = connection.execute(
            "SELECT count(*) FROM attempts WHERE run_id = ? AND deciding AND result = 'passed'", (run,)
        ).fetchone()
        (tests,) = connection.execute(
            """SELECT count(*) FROM tests JOIN attempts ON attempts.id = attempt_id
               WHERE run_id = ? AND deciding AND status = 'passed'""",
            (run,),
        ).fetchone()
    finally:
        connection.close()
    return files, tests
