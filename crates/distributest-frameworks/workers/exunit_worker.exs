# Runs ExUnit files for distributest: the project is compiled and started and its test helper loaded once, then file
# after file runs in this same virtual machine.
#
# Started by an agent, which talks to it over the descriptor in DISTRIBUTEST_FD (see proto/worker.md). Needs Elixir 1.14
# or newer, and nothing else. The command line after this file's name is that of `mix test`: `--only`, `--seed`.
#
# How it works. Mix does all that `mix test` does: aliases, compilation, configuration, options, coverage, the start of
# the application, the helper. Only where it would load and run all test files it finds `Mix.Compilers.Test` replaced by
# the one below, which serves the agent. For each file `Files` loads it, has ExUnit run what it defined, and unloads it.
# In an umbrella project the same is done for each application when the first of its files comes.
#
# Rules:
# - What files share is what they share in `mix test`: the application, its configuration, named processes, tables. A
#   module that a test file defines is not there for the next one.
# - Callbacks of `ExUnit.after_suite` that the helper registers are run once, at the end, with the sums of all files.
# - Formatters named in options or configuration are not used: every result is reported over the socket.
# - A file with tests that ExUnit says nothing of has failed: it called `ExUnit.run` itself, or a test stopped ExUnit,
#   which is started again for the next file.
# - `--max-failures` counts in each file by itself. What a run would note for `mix test --failed` is not written.
# - Only one worker compiles at a time; the others find it done.

defmodule DistributestWorker.Unable do
  # Why this project can't be tested here.
  defexception [:message, :hint]
end

defmodule DistributestWorker.Shell do
  # Mix's shell, which remembers the errors it has shown, and never asks.

  @behaviour Mix.Shell
  @errors {__MODULE__, :errors}

  def errors, do: @errors |> :persistent_term.get([]) |> Enum.reverse()

  @impl true
  def error(message) do
    text = message |> IO.ANSI.format(false) |> IO.chardata_to_string()
    :persistent_term.put(@errors, [text | :persistent_term.get(@errors, [])])
    Mix.Shell.IO.error(message)
  end

  @impl true
  defdelegate info(message), to: Mix.Shell.IO
  @impl true
  defdelegate print_app(), to: Mix.Shell.IO
  @impl true
  defdelegate cmd(command), to: Mix.Shell.IO
  @impl true
  defdelegate cmd(command, options), to: Mix.Shell.IO
  @impl true
  def prompt(_message), do: ""
  @impl true
  def yes?(_message), do: false
  @impl true
  def yes?(_message, _options), do: false
end

defmodule DistributestWorker.Suite do
  # ExUnit's settings, made ready for many runs, and what belongs to the whole of them.

  alias DistributestWorker.{Agent, Text}

  @sums {__MODULE__, :sums}

  # To be called when the options are read and the helper is loaded. Returns the settings for `restore`.
  def prepare do
    settings = ExUnit.configuration()
    ExUnit.configure(seed: settings[:seed], failures_manifest_file: nil, failures_manifest_path: nil)
    IO.puts("Running ExUnit with seed: #{settings[:seed]}, max_cases: #{settings[:max_cases]}")
    settings = Application.get_all_env(:ex_unit)
    {Keyword.put(settings, :after_suite, []), settings[:after_suite]}
  end

  # Before each file: a test of the one before may have stopped ExUnit.
  def restore(settings) do
    {:ok, _} = Application.ensure_all_started(:ex_unit)
    ExUnit.configure(settings)
  end

  def add(sums) do
    so_far = :persistent_term.get(@sums, %{})
    :persistent_term.put(@sums, Map.merge(so_far, sums, fn _, one, other -> one + other end))
  end

  def finish(callbacks) do
    none = %{excluded: 0, failures: 0, skipped: 0, total: 0}
    sums = :persistent_term.get(@sums, none)
    Enum.each(callbacks, &call(&1, sums))
  end

  # No file can be told of what goes wrong in that any more.
  defp call(callback, sums) do
    callback.(sums)
  catch
    kind, reason ->
      IO.puts(:stderr, Exception.format(kind, reason, __STACKTRACE__))
      message = Text.line("in a callback of after_suite: " <> Exception.format_banner(kind, reason, __STACKTRACE__))
      Agent.send_message(%{type: "end_failed", message: message})
  end
end

defmodule DistributestWorker.MixProject do
  # The project of the directory this runs in, by Mix.

  alias DistributestWorker.{Agent, Files, Recorder, Shell, Suite, Unable}

  @plain_hint "see the worker's output; plain `mix test` fails in the same way"
  @dependencies_hint "let node_setup fetch and compile them: mix deps.get && MIX_ENV=test mix deps.compile"
  @compile_options [docs: false, debug_info: false]

  def serve(arguments) do
    Mix.start()
    Mix.shell(Shell)
    unless System.get_env("MIX_ENV"), do: Mix.env(:test)
    # Options that choose test files choose nothing here.
    refuse(arguments, ~w(--failed --stale --partitions --listen-on-stdin --repeat-until-failure))

    try do
      Mix.CLI.main(["distributest.serve" | arguments])
    catch
      kind, reason ->
        if Process.get(__MODULE__) == :serving, do: :erlang.raise(kind, reason, __STACKTRACE__)
        raise explain(kind, reason, __STACKTRACE__)
    end
  end

  defp refuse(arguments, options) do
    with [path | _] <- arguments, false <- String.starts_with?(path, "-") do
      hint = "name files and tests before --: distributest #{path}"
      raise Unable, message: "exunit does not run #{path} because it stands behind --", hint: hint
    end

    for argument <- arguments, argument in options do
      raise Unable, message: "`mix test #{argument}` can't be used: distributest says which files run", hint: ""
    end
  end

  defp explain(_kind, %Unable{} = unable, _stack), do: unable

  defp explain(kind, reason, stack) do
    case {kind, reason, Shell.errors()} do
      {:exit, {:shutdown, _}, [_ | _] = errors} ->
        text = Enum.join(errors, " ")
        hint = if text =~ "deps.get" or text =~ "dependencies", do: @dependencies_hint, else: @plain_hint
        %Unable{message: "mix can't make this project ready: #{text}", hint: hint}

      _ ->
        IO.puts(:stderr, Exception.format(kind, reason, stack))
        banner = Exception.format_banner(kind, reason, stack)
        %Unable{message: "mix can't make this project ready: #{banner}", hint: @plain_hint}
    end
  end

  # The body of the task `mix distributest.serve`.
  def serve_project(arguments) do
    compile(arguments)

    if Mix.Project.umbrella?() do
      serve_umbrella(arguments)
    else
      :persistent_term.put(__MODULE__, &serve_application/1)
      Mix.Task.run("test", arguments)
      if Process.get(__MODULE__) != :serving, do: raise(Unable, message: unknown_mix(), hint: "")
    end
  end

  defp unknown_mix, do: "Mix #{System.version()} runs tests in another way than this worker knows"

  # What the replaced part of `mix test` does; what it returns is what one says of tests that passed.
  def run_tests(compile_options) do
    :persistent_term.get(__MODULE__).(compile_options)
    {:ok, %{excluded: 0, failures: 0, skipped: 0, total: 1, warnings?: false}}
  end

  defp serve_application(compile_options) do
    {settings, callbacks} = Suite.prepare()
    workspace = File.cwd!()
    serving()

    Files.serve(workspace, fn file, run ->
      Suite.restore(settings)
      run.(file, Keyword.merge(@compile_options, compile_options))
    end)

    Suite.finish(callbacks)
  end

  defp serve_umbrella(arguments) do
    if "--cover" in arguments, do: raise(Unable, message: "`--cover` can't be used in an umbrella project", hint: "")
    workspace = File.cwd!()
    pristine = Application.get_all_env(:ex_unit)
    serving()

    Files.serve(workspace, fn file, run ->
      case application_of(file) do
        nil ->
          Recorder.finished("broken", "the file is in no application of this umbrella project", "")

        {application, path} ->
          Suite.restore(pristine)
          run_in_application(prepared(application, path, arguments), application, path, file, run)
      end
    end)

    for {:ready, _, callbacks, _} <- Map.values(prepared()), do: Suite.finish(callbacks)
  end

  defp application_of(file) do
    Enum.find(Mix.Project.apps_paths(), fn {_application, path} -> String.starts_with?(file, path <> "/") end)
  end

  defp run_in_application({:ready, settings, _callbacks, options}, application, path, file, run) do
    Suite.restore(settings)
    Mix.Project.in_project(application, path, fn _ -> run.(Path.relative_to(file, path), options) end)
  end

  defp run_in_application({:unable, message}, _application, _path, _file, _run) do
    Recorder.finished("broken", message, "")
  end

  defp prepared, do: Process.get({__MODULE__, :prepared}, %{})

  # Has Mix start and configure an application, once.
  defp prepared(application, path, arguments) do
    with :error <- Map.fetch(prepared(), application) do
      state = prepare(application, path, arguments)
      Process.put({__MODULE__, :prepared}, Map.put(prepared(), application, state))
      state
    else
      {:ok, state} -> state
    end
  end

  defp prepare(application, path, arguments) do
    worker = self()

    :persistent_term.put(__MODULE__, fn compile_options ->
      {settings, callbacks} = Suite.prepare()
      send(worker, {:ready, settings, callbacks, Keyword.merge(@compile_options, compile_options)})
    end)

    Mix.Project.in_project(application, path, fn _ -> Mix.Task.run("test", arguments) end)

    receive do
      {:ready, _settings, _callbacks, _options} = state -> state
    after
      0 -> {:unable, unknown_mix()}
    end
  catch
    kind, reason -> {:unable, Exception.message(explain(kind, reason, __STACKTRACE__))}
  end

  defp serving do
    Process.put(__MODULE__, :serving)
    DistributestWorker.Output.flush()
    Agent.send_ready("exunit", System.version())
  end

  # Under a lock: workers of other runners may start in the same directory at the same time.
  defp compile(arguments) do
    directory = Mix.Project.build_path()
    File.mkdir_p!(directory)
    with_lock(Path.join(directory, "distributest.lock"), fn -> Mix.Task.run("compile", arguments) end)
  end

  # A program holds the lock for as long as its standard input is open.
  defp with_lock(file, work) do
    case System.find_executable("flock") do
      nil ->
        work.()

      flock ->
        port = Port.open({:spawn_executable, flock}, [:binary, args: [file, "sh", "-c", "echo locked; cat >/dev/null"]])

        receive do
          {^port, {:data, "locked\n"}} -> :ok
        end

        result = work.()
        Port.close(port)
        result
    end
  end
end

defmodule DistributestWorker.PlainProject do
  # A directory without `mix.exs`: files that run with `elixir test/one_test.exs`.

  alias DistributestWorker.{Agent, Files, Suite, Unable}

  @helper "test/test_helper.exs"

  def serve([]) do
    Application.ensure_all_started(:ex_unit)
    ExUnit.configure(autorun: false)
    if File.regular?(@helper), do: Code.require_file(@helper)
    {settings, callbacks} = Suite.prepare()
    Agent.send_ready("exunit", System.version())

    Files.serve(File.cwd!(), fn file, run ->
      Suite.restore(settings)
      run.(file, docs: false, debug_info: false)
    end)

    Suite.finish(callbacks)
  end

  def serve(arguments) do
    raise Unable,
      message: "options (#{Enum.join(arguments, " ")}) need a Mix project, and there is no mix.exs",
      hint: ""
  end
end

defmodule Mix.Tasks.Distributest.Serve do
  # A task of Mix's own kind, so that Mix loads the project for it as for any other.
  use Mix.Task

  @impl true
  def run(arguments), do: DistributestWorker.MixProject.serve_project(arguments)
end

Code.put_compiler_option(:ignore_module_conflict, true)

defmodule Mix.Compilers.Test do
  def require_and_run(_files, _test_paths, compile_options, _options) do
    DistributestWorker.MixProject.run_tests(compile_options)
  end
end

Code.put_compiler_option(:ignore_module_conflict, false)

{:ok, _} = DistributestWorker.Agent.start_link()
DistributestWorker.Stacks.tell_when_asked()
DistributestWorker.CompilerTracer.start()

try do
  if Version.match?(System.version(), "< 1.14.0") do
    hint = "install it where the tests run, for example in node_setup"

    raise DistributestWorker.Unable,
      message: "Elixir #{System.version()} is too old: 1.14 or newer is needed",
      hint: hint
  end

  has_mix = File.regular?(System.get_env("MIX_EXS") || "mix.exs")
  project = if has_mix, do: DistributestWorker.MixProject, else: DistributestWorker.PlainProject
  project.serve(System.argv())
rescue
  unable in DistributestWorker.Unable ->
    message = DistributestWorker.Text.line(unable.message)
    DistributestWorker.Agent.send_message(%{type: "unable", message: message, hint: unable.hint})
end
