"""RSpec: 200 files of 5 trivial examples, a helper that costs half a second."""

import shutil

from measure import Goal, Measurement

HELPER = """
finish = Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID) + 0.5
nil while Process.clock_gettime(Process::CLOCK_PROCESS_CPUTIME_ID) < finish
"""


def measurements(bench):
    files = bench.size(200, 4)
    examples = files * 5
    project = bench.directory("rspec")
    (project / ".rspec").write_text("--require spec_helper\n")
    (project / "spec").mkdir()
    (project / "spec/spec_helper.rb").write_text(HELPER)
    names = [f"spec/case_{number}_spec.rb" for number in range(files)]
    for name in names:
        lines = [f"  it('adds {number}') {{ expect({number} + 1).to eq({number + 1}) }}\n" for number in range(5)]
        (project / name).write_text(f"RSpec.describe '{name}' do\n{''.join(lines)}end\n")
    sample = bench.size(8, 4)
    (project / "sample").write_text("".join(f"{name}\n" for name in names[:sample]))

    # Of one project, an agent keeps the workers of the last run.
    copy = bench.directory("rspec-shared")
    shutil.copytree(project, copy, dirs_exist_ok=True)

    with bench.resident_agent() as agent:
        for runners in (2, 4):
            yield Measurement(
                f"rspec: {files} files, {examples} examples, {runners} runners (a process per file: from {sample} files)",
                [
                    bench.distributest("fork", ["--runners", runners], project, files, examples),
                    bench.distributest("shared", ["--runners", runners, "--isolation", "shared"], project, files, examples),
                    bench.with_kept_workers("fork, kept", agent, ["--runners", runners], project, files, examples),
                    bench.with_kept_workers("shared, kept", agent, ["--runners", runners, "--isolation", "shared"], copy, files, examples),
                    bench.peer("rspec", ["rspec"], project, lambda output: f"{examples} examples, 0 failures" in output),
                    bench.peer(
                        "parallel_rspec",
                        ["parallel_rspec", "-n", runners, "spec"],
                        project,
                        lambda output: f"{examples} examples, 0 failures" in output,
                    ),
                    bench.peer(
                        "a process per file",
                        ["xargs", "-a", "sample", f"-P{runners}", "-n1", "rspec"],
                        project,
                        lambda output: output.count("5 examples, 0 failures") == sample,
                        scale=files / sample,
                    ),
                ],
                [
                    Goal("fork", 1.0, ["parallel_rspec"]),
                    Goal("shared", 0.85, ["parallel_rspec"]),
                    Goal("fork, kept", 0.6, ["parallel_rspec"]),
                    Goal("shared, kept", 0.6, ["parallel_rspec"]),
                    Goal("fork", 0.03, ["a process per file"]),
                ],
                pieces=files,
            )
