"""ExUnit: what `mix test` tells a formatter, which is how its own reporter learns of tests."""

from frameworks import Test

WORDS = {"error": "invalid"}
FAILURES = ("failed", "invalid")

FORMATTER = '''
defmodule ConformanceFormatter do
  use GenServer

  @impl true
  def init(_options), do: {:ok, File.open!(System.fetch_env!("COMPARE_RESULTS"), [:write, :utf8])}

  @impl true
  def handle_cast({:test_finished, test}, file) do
    status = if test.state, do: elem(test.state, 0), else: :passed
    path = Path.relative_to_cwd(test.tags.file)
    IO.write(file, Enum.join(["#{test.name} (#{inspect(test.module)})", status, path, test.tags.line], "\\x1f") <> "\\x1e")
    {:noreply, file}
  end

  def handle_cast(_event, file), do: {:noreply, file}
end
'''


def run(project):
    results = project.scratch / "results"
    formatter = project.scratch / "formatter.exs"
    formatter.write_text(FORMATTER)
    command = ["elixir", "-r", str(formatter), "-S", "mix", "test", "--formatter", "ConformanceFormatter"]
    project.run(command, {"COMPARE_RESULTS": str(results)})
    tests = {}
    for test in results.read_text().split("\x1e")[:-1]:
        identifier, status, file, line = test.split("\x1f")
        if status != "excluded":
            tests[identifier] = [Test(status, file=file, line=int(line))]
    return tests
