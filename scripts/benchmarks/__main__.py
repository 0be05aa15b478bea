"""Measures distributest beside what its users could pick instead, in turns, on this machine.

Prints for each measurement a table of medians with their spread, and for each goal the ratio and whether it is met.
Appends a line of JSON for each measurement to a file. Exits with 1 if a run did not do its work; a goal that is missed
is no error.
"""

import argparse
import importlib
import json
import os
import pathlib
import signal
import sys
import tempfile

import machine
from bench import HERE, ROOT, Bench, install
from measure import WrongResult, measure
from table import table

CASES = sorted(file.stem for file in HERE.glob("cases/*.py"))


def main():
    options = parse_arguments()
    if options.list:
        for name in CASES:
            print(f"{name:20} {title(name)}")
        return 0
    # What was set up goes in any case, a lab too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    program = options.program or install("program")[-1]
    results = []
    with tempfile.TemporaryDirectory(prefix="distributest-bench-") as scratch:
        bench = Bench(program, scratch, options.smoke)
        for name in options.cases or CASES:
            try:
                results += run_case(name, bench, options)
            except WrongResult as error:
                print(f"bench: {name}: {error}", file=sys.stderr)
                return 1
    goals = [goal for result in results for goal in result["goals"]]
    print(f"\n{len(results)} measurements, {sum(goal['met'] for goal in goals)} of {len(goals)} goals met")
    return 0


def parse_arguments():
    parser = argparse.ArgumentParser(
        prog="bench", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", help="what to measure [default: everything]")
    parser.add_argument("--list", action="store_true", help="say which cases there are")
    parser.add_argument("--program", type=os.path.abspath, metavar="PATH", help="the distributest to measure, with runner-agent beside it [default: a release build]")
    parser.add_argument("--runs", type=int, default=5, metavar="N", help="turns of each measurement [default: 5]")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", default=ROOT / "target/bench.jsonl", help="where to append the lines of JSON [default: target/bench.jsonl]")
    parser.add_argument("--smoke", action="store_true", help="tiny suites and one turn: shows that the cases work; the numbers mean nothing")
    options = parser.parse_args()
    for name in options.cases:
        if name not in CASES:
            parser.error(f"no such case: {name} (--list names them)")
    if options.runs < 1:
        parser.error("--runs must be at least 1")
    return options


def title(name):
    return importlib.import_module(f"cases.{name}").__doc__.splitlines()[0]


def run_case(name, bench, options):
    results = []
    for measurement in importlib.import_module(f"cases.{name}").measurements(bench):
        described = machine.describe(options.program)
        samples = measure(measurement, 1 if bench.smoke else options.runs, progress)
        progress("")
        result = described | {
            "case": name,
            "measurement": measurement.name,
            "unit": measurement.unit,
            "variants": {variant: sample.summary() for variant, sample in samples.items()},
            "goals": [goal.judge(samples) for goal in measurement.goals],
        }
        results.append(result)
        print(f"\n{measurement.name}\n{machine.in_words(described)}")
        print("\n".join(table(measurement, result)), flush=True)
        options.json.parent.mkdir(parents=True, exist_ok=True)
        with options.json.open("a") as file:
            print(json.dumps(result), file=file)
    return results


def progress(text):
    if sys.stderr.isatty():
        print(f"\r\033[K{text}", end="", file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
