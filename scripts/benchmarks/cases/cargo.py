"""A cargo crate with 500 trivial tests in five targets, already built."""

import re

from measure import Goal, Measurement

MANIFEST = '[package]\nname = "trivial"\nversion = "0.0.0"\nedition = "2021"\n\n[lib]\ndoctest = false\n'


def measurements(bench):
    targets, each = 5, bench.size(100, 2)
    tests = targets * each
    project = bench.directory("cargo")
    (project / "src").mkdir()
    (project / "tests").mkdir()
    (project / "Cargo.toml").write_text(MANIFEST)
    body = "".join(f"#[test]\nfn test_{number}() {{\n    assert_eq!({number} + 1, {number + 1});\n}}\n\n" for number in range(each))
    for path in ["src/lib.rs", *(f"tests/part_{number}.rs" for number in range(1, targets))]:
        (project / path).write_text(body)

    def all_passed(output):
        return re.search(rf"\b{tests} tests run: {tests} passed", output)

    for runners in (2, 4):
        yield Measurement(
            f"cargo: {tests} tests in {targets} targets, {runners} runners",
            [
                bench.distributest("a process per target", ["--runners", runners], project, targets, tests),
                bench.distributest(
                    "a process per test", ["--runners", runners, "--isolation", "process"], project, targets, tests
                ),
                bench.peer("nextest", ["cargo", "nextest", "run", "--offline", f"-j{runners}"], project, all_passed),
                bench.peer(
                    "cargo test",
                    ["cargo", "test", "--offline", "--quiet", "--", f"--test-threads={runners}"],
                    project,
                    lambda output: output.count(f"test result: ok. {each} passed") == targets,
                ),
            ],
            [Goal("a process per target", 0.5, ["nextest"]), Goal("a process per test", 1.0, ["nextest"])],
            pieces=tests,
        )
