"""The scheduler alone: instructions of a file with all its events, counted by callgrind, however busy the machine is."""

import re

from bench import install
from measure import Measurement, Variant

FLEETS = (16, 1_024)
FEW, MANY = 1_000, 10_000


def measurements(bench):
    (program,) = install("scheduler")
    counts = {}

    def count(runners, files):
        """Of a whole process that simulates one run."""
        home = bench.directory("instructions")
        callgrind = ["valgrind", "--tool=callgrind", "--callgrind-out-file=counted"]
        ended = bench.command([*callgrind, program, "--bench", "--test", f"^growth/{runners}/{files}$"], home)()
        ended.expect(ended.status == 0, "the benchmark failed")
        (counted,) = re.findall(r"^(?:totals|summary): (\d+)$", (home / "counted").read_text(), re.MULTILINE)[-1:]
        return int(counted), ended

    def variant(runners):
        def run():
            few, _ = count(runners, FEW)
            many, ended = count(runners, MANY)
            counts[runners] = (many - few) / (MANY - FEW)
            return ended

        return Variant(f"{runners:,} runners", run, lambda _: None, value=lambda _: counts[runners], warm_up=False)

    yield Measurement(
        f"instructions: the scheduler, a file between the {FEW:,}th and the {MANY:,}th",
        [variant(runners) for runners in (FLEETS[:1] if bench.smoke else FLEETS)],
        unit="instructions",
    )
