"""100,000 files on 64 hosts of 16 runners that run nothing: what a file costs the coordinator."""

import json
import shutil

from bench import install
from measure import Goal, Measurement, Variant

HOSTS, RUNNERS = 64, 16


def measurements(bench):
    (program,) = install("coordinator")
    few, some, many = (bench.size(files, files // 100) for files in (1_000, 10_000, 100_000))
    results = {}

    def run_all():
        for files in (few, some, many):
            state = bench.directory("coordinator", "state")
            run = bench.command([program, project(bench, files), state, HOSTS, RUNNERS], state)()
            shutil.rmtree(state)
            results[files] = complete(run, files)
        return run

    def all_ran(run):
        run.expect(run.status == 0, "the run failed")

    def variant(value):
        others = {f"{files:,} files": lambda _, files=files: value(files) for files in (few, some)}
        return Variant(f"{many:,} files", run_all, all_ran, value=lambda _: value(many), also=others, warm_up=False)

    processor = variant(lambda files: results[files]["cpu_seconds"] / files)
    yield Measurement(
        f"coordinator: processor time per file, {HOSTS} hosts × {RUNNERS} runners that run nothing",
        [processor],
        [Goal(processor.name, 50e-6), Goal(processor.name, 1.1, [f"{few:,} files"])],
    )
    memory = variant(lambda files: results[files]["peak_bytes"])
    memory.also["each file beyond the first"] = lambda _: (
        (results[many]["peak_bytes"] - results[few]["peak_bytes"]) / (many - few)
    )
    yield Measurement(
        f"coordinator: memory at its highest, {HOSTS} hosts × {RUNNERS} runners that run nothing",
        [memory],
        [Goal("each file beyond the first", 1024)],
        unit="B",
    )


def project(bench, files):
    """Empty test files, a thousand to a directory, made once."""
    path = bench.scratch / f"coordinator/project-{files}"
    if not path.exists():
        for number in range(files):
            directory = path / f"part_{number // 1000}"
            directory.mkdir(parents=True, exist_ok=True)
            (directory / f"check_{number}.sh").touch()
        (path / ".distributest").mkdir()
        (path / ".distributest/config.toml").write_text('files = ["**/*.sh"]\ncommand = "sh {file}"\n')
    return path


def complete(run, files):
    run.expect(run.status == 0, "the run failed")
    result = json.loads(run.output.splitlines()[-1])
    run.expect(result["files"] == result["orders"] == files, "not every file was run once")
    return result
