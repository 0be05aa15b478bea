"""pytest: 200 files of 5 trivial tests, a conftest that costs half a second."""

import re
import shutil

from measure import Goal, Measurement

CONFTEST = """
import time

end = time.process_time() + 0.5
while time.process_time() < end:
    pass
"""


def measurements(bench):
    files = bench.size(200, 4)
    tests = files * 5
    project = bench.directory("pytest")
    (project / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider\n")
    (project / "conftest.py").write_text(CONFTEST)
    (project / "tests").mkdir()
    for number in range(files):
        (project / f"tests/test_{number}.py").write_text(
            "".join(f"def test_{name}():\n    assert {name} + 1 == {name + 1}\n\n" for name in range(5))
        )

    def all_passed(output):
        return re.search(rf"^=* ?{tests} passed in ", output, re.MULTILINE)

    # Of one project, an agent keeps the workers of the last run.
    copy = bench.directory("pytest-shared")
    shutil.copytree(project, copy, dirs_exist_ok=True)

    with bench.resident_agent() as agent:
        for runners in (2, 4):
            modes = {
                f"xdist {mode}": bench.peer(
                    f"xdist {mode}", ["pytest", "-q", "-n", runners, "--dist", mode], project, all_passed
                )
                for mode in ("load", "loadfile", "worksteal")
            }
            yield Measurement(
                f"pytest: {files} files, {tests} tests, {runners} runners",
                [
                    bench.distributest("fork", ["--runners", runners], project, files, tests),
                    bench.distributest("shared", ["--runners", runners, "--isolation", "shared"], project, files, tests),
                    bench.with_kept_workers("fork, kept", agent, ["--runners", runners], project, files, tests),
                    bench.with_kept_workers("shared, kept", agent, ["--runners", runners, "--isolation", "shared"], copy, files, tests),
                    bench.peer("pytest", ["pytest", "-q", "-p", "no:xdist"], project, all_passed),
                    *modes.values(),
                ],
                [
                    Goal("fork", 0.7, list(modes), "the best of xdist"),
                    Goal("shared", 0.5, list(modes), "the best of xdist"),
                    Goal("fork, kept", 0.4, list(modes), "the best of xdist"),
                    Goal("shared, kept", 0.4, list(modes), "the best of xdist"),
                ],
                pieces=files,
            )
