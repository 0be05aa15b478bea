"""The scheduler alone: what a file costs it, by the number of files and of runners. Draws target/growth.svg."""

import json

import chart
from bench import ROOT, install
from measure import Goal, Measurement, Variant

FILES = (1_000, 10_000, 100_000, 1_000_000)
RUNNERS = (16, 1_024, 16_000)


def measurements(bench):
    (program,) = install("scheduler")
    files, runners = (FILES[:1], RUNNERS[:1]) if bench.smoke else (FILES, RUNNERS)
    wanted = f"^growth/({'|'.join(map(str, runners))})/({'|'.join(map(str, files))})$"
    costs = {}

    def run():
        home = bench.directory("growth")
        ended = bench.command([program, "--bench", "--quick", wanted], home, {"CRITERION_HOME": str(home)})()
        for number in runners:
            for count in files:
                estimates = json.loads((home / f"growth/{number}/{count}/new/estimates.json").read_text())
                costs[number, count] = estimates["mean"]["point_estimate"] / 1e9 / count
        lines = {f"{number:,} runners": [costs[number, count] * 1e6 for count in files] for number in runners}
        (ROOT / "target").mkdir(exist_ok=True)
        (ROOT / "target/growth.svg").write_text(chart.lines(files, lines, "files in the run", "µs a file"))
        return ended

    def complete(ended):
        ended.expect(ended.status == 0, "the benchmark failed")

    name = "{:,} runners, {:,} files".format
    most = name(runners[-1], files[-1])
    others = {name(*key): lambda _, key=key: costs[key] for key in [(r, f) for r in runners for f in files]}
    others.pop(most)
    flat = [Goal(most, 1.25, [name(runners[-1], count)]) for count in files[-2:-1]]
    yield Measurement(
        "growth: processor time of the scheduler for a file, with all its events",
        [Variant(most, run, complete, value=lambda _: costs[runners[-1], files[-1]], also=others, warm_up=False)],
        [Goal(most, 2e-6), *flat],
    )
