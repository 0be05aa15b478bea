"""Files that do nothing (`exit 0`), on this machine: what a file costs."""

from measure import Goal, Measurement


def measurements(bench):
    count = bench.size(2000, 40)
    project = bench.directory("nothing")
    names = [f"check_{number}.sh" for number in range(count)]
    for name in names:
        (project / name).write_text("exit 0\n")
    (project / "Makefile").write_text(f"all: {' '.join(names)}\n.PHONY: all {' '.join(names)}\n{' '.join(names)}:\n\t@sh $@\n")
    (project / "names").write_text("".join(f"{name}\n" for name in names))
    (project / ".distributest").mkdir()
    (project / ".distributest/config.toml").write_text('files = ["*.sh"]\ncommand = "sh {file}"\n')

    # Several milliseconds a file: a part of them says as much.
    sample = bench.size(500, 20)
    (project / "sample").write_text("".join(f"{name}\n" for name in names[:sample]))

    def all_started(output):
        return output == ""

    def all_logged(_):
        lines = (project / "joblog").read_text().splitlines()[1:]
        return [line.split("\t")[6] for line in lines] == ["0"] * sample

    for runners in (2, 4):
        yield Measurement(
            f"nothing: {count} files, {runners} runners (GNU parallel: from {sample})",
            [
                bench.distributest("distributest", ["--runners", runners], project, files=count, tests=count),
                bench.peer("make", ["make", f"-j{runners}"], project, all_started),
                bench.peer("xargs", ["xargs", "-a", "names", f"-P{runners}", "-n1", "sh"], project, all_started),
                bench.peer(
                    "GNU parallel",
                    ["parallel", "--will-cite", f"-j{runners}", "--joblog", "joblog", "-a", "sample", "sh {}"],
                    project,
                    all_logged,
                    scale=count / sample,
                ),
            ],
            [Goal("distributest", 1.25, ["make", "xargs"]), Goal("distributest", 0.25, ["GNU parallel"])],
            pieces=count,
        )
