"""What is measured, and how: variants of the same work, run in turns, and goals for the ratios of their medians.

Rules:
- All variants of a measurement run once unmeasured (that fills caches and histories as they are for somebody who runs
  the same tests again), then in turns, so that what else the machine does befalls all of them.
- A run that ends in another way than it should, or whose results are not complete, ends the benchmark: it is no number.
"""

import dataclasses
import statistics
from collections.abc import Callable, Mapping, Sequence


class WrongResult(Exception):
    """A measured run did not do its work."""


@dataclasses.dataclass
class Run:
    """A run that ended: what the stopwatch says, and what the command wrote."""

    status: int
    began: float
    seconds: float
    cpu_seconds: float
    peak_bytes: int
    output: str

    def expect(self, fact, what):
        if not fact:
            raise WrongResult(f"{what} (exit status {self.status})\n{self.output[-4000:]}")


@dataclasses.dataclass
class Variant:
    """One way of doing the work."""

    name: str
    run: Callable[[], Run]
    """Does it once."""
    check: Callable[[Run], None]
    """Raises WrongResult unless the run did all of the work."""
    before: Callable[[], None] = lambda: None
    """Brings about the state every run begins with; not measured."""
    scale: float = 1.0
    """The whole work as a multiple of what is run, where only a sample of it is."""
    value: Callable[[Run], float] = lambda run: run.seconds
    """What is measured."""
    also: Mapping[str, Callable[[Run], float]] = dataclasses.field(default_factory=dict)
    """What else is measured in the same runs, by name."""
    warm_up: bool = True
    """Whether it runs once unmeasured."""


@dataclasses.dataclass
class Goal:
    """What the ratio of a variant to the best of others must not exceed; or the variant's own value, without others."""

    of: str
    limit: float
    against: Sequence[str] = ()
    words: str = ""

    def judge(self, samples):
        best = min((samples[name].median for name in self.against), default=1.0)
        ratio = samples[self.of].median / best
        against = self.words or " or ".join(self.against)
        return {"of": self.of, "against": against, "limit": self.limit, "ratio": ratio, "met": ratio <= self.limit}


@dataclasses.dataclass
class Measurement:
    """Variants to compare, and what is hoped for."""

    name: str
    variants: Sequence[Variant]
    goals: Sequence[Goal] = ()
    unit: str = "s"
    """Of the values: "s", "B", "B/s", "instructions", or "×" for what is a ratio already."""
    pieces: int = 0
    """Into how many equal pieces the work can be divided, to say what one takes."""


@dataclasses.dataclass
class Sample:
    """The values of a variant's runs."""

    values: list
    cpu_seconds: list

    @property
    def median(self):
        return statistics.median(self.values)

    def summary(self):
        return {
            "median": self.median,
            "min": min(self.values),
            "max": max(self.values),
            "cpu_seconds": statistics.median(self.cpu_seconds),
            "values": self.values,
        }


def measure(measurement, runs, progress):
    """The samples of all variants, by name."""
    for variant in measurement.variants:
        if variant.warm_up:
            progress(f"{measurement.name}: {variant.name}, unmeasured")
            once(variant)
    samples = {name: Sample([], []) for variant in measurement.variants for name in (variant.name, *variant.also)}
    for turn in range(runs):
        progress(f"{measurement.name}: turn {turn + 1} of {runs}")
        for variant in measurement.variants:
            run = once(variant)
            for name, value in {variant.name: variant.value, **variant.also}.items():
                samples[name].values.append(value(run) * variant.scale)
                samples[name].cpu_seconds.append(run.cpu_seconds * variant.scale)
    return samples


def once(variant):
    variant.before()
    run = variant.run()
    try:
        variant.check(run)
    except WrongResult as error:
        raise WrongResult(f"{variant.name}: {error}") from None
    return run
