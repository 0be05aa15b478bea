"""One file of 21 holds 40 % of the work: four hosts with two runners each, against the bound without splitting it."""

import sleepers
from lab import lab
from measure import Goal, Measurement

RUNNERS = 2
TEST = "import time, pytest\n\n\n@pytest.mark.parametrize('part', range({}))\ndef test_part(part):\n    time.sleep({})\n"


def measurements(bench):
    with lab(bench, bench.size(4, 2)) as hosts:
        hosts.configure(RUNNERS)
        project = hosts.project("split")
        total = bench.size(40.0, 8.0)
        durations = [total * 0.4] + [total * 0.6 / 20] * 20
        for number, seconds in enumerate(durations):
            tests = 40 if number == 0 else 5
            (project / f"test_{number}.py").write_text(TEST.format(tests, round(seconds / tests, 4)))
        (project / "pytest.ini").write_text("[pytest]\n")
        (project / ".distributest").mkdir()
        (project / ".distributest/config.toml").write_text('split = ["**"]\n')
        hosts.own()
        unsplit = sleepers.bound(durations, RUNNERS, [1.0] * len(hosts.hosts))
        whole = total / RUNNERS / len(hosts.hosts)
        ours = hosts.distributest("distributest", "split", len(durations), value=lambda run: run.seconds / unsplit)
        ours.also["of the bound with splitting"] = lambda run: run.seconds / whole
        yield Measurement(
            f"split: as a multiple of the bound without splitting, {unsplit:.1f} s (with it {whole:.1f} s)",
            [ours],
            [Goal("distributest", 0.6)],
            unit="×",
        )
