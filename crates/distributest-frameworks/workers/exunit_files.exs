# How `exunit_worker.exs` runs a file: what stands between ExUnit and the agent. Works with the `Agent` of
# `elixir_worker.exs`, which stands before it in the one text that a worker program is.

defmodule DistributestWorker.CompilerTracer do
  # Sees test files being compiled: notes the modules each defines, and puts a `setup` callback into each test case, which
  # is behind all others and lets its test begin only when that has been noted. ExUnit itself tells formatters of a test
  # while it runs already, which is too late for a test that ends the virtual machine.

  @table __MODULE__

  def start do
    :ets.new(@table, [:named_table, :public, :bag])
    Code.put_compiler_option(:tracers, [__MODULE__ | Code.get_compiler_option(:tracers)])
  end

  # The modules defined by a file since the last time it was asked.
  def take_modules(file), do: take(Path.expand(file))

  # Of those, the test cases that ExUnit was told of, to run them.
  def take_test_cases(file), do: take({:test_cases, Path.expand(file)})

  defp take(key), do: for({_, module} <- :ets.take(@table, key), uniq: true, do: module)

  def trace({:on_module, _binary, _}, env) do
    :ets.insert(@table, {env.file, env.module})
    :ok
  end

  def trace({:remote_macro, _meta, ExUnit.Case, :__using__, 1}, env) do
    Module.put_attribute(env.module, :before_compile, {__MODULE__, :add_setup})
    :ok
  end

  def trace(_event, _env), do: :ok

  defmacro add_setup(env) do
    # Not there with `register: false`.
    registering = Module.get_attribute(env.module, :after_compile)
    if {ExUnit.Case, :__after_compile__} in registering, do: :ets.insert(@table, {{:test_cases, env.file}, env.module})

    quote do
      ExUnit.Callbacks.setup(do: DistributestWorker.Recorder.enter_test())
    end
  end
end

defmodule DistributestWorker.Recorder do
  # A formatter of ExUnit, which reports to the agent; one for each file.

  use GenServer

  alias DistributestWorker.{Agent, Text}

  @name __MODULE__
  @width 80

  # ExUnit's own name for a test in the account of a failure. Parameters are those of Elixir 1.18's `:parameterize`.
  def id(test) do
    parameters = Map.get(test, :parameters, %{})
    suffix = if parameters == %{}, do: "", else: " #{inspect(parameters)}"
    "#{test.name} (#{inspect(test.module)})#{suffix}"
  end

  # The `setup` callback of each test case.
  def enter_test, do: GenServer.call(@name, :enter_test, :infinity)

  @impl true
  def init(options) do
    Process.register(self(), @name)
    run = Keyword.fetch!(options, :distributest)
    {:ok, Map.merge(run, %{running: [], failed: 0, run: 0, excluded: 0, max_failures: false, errors: [], ended: []})}
  end

  # What came before in this process's mailbox has been reported and noted by now.
  @impl true
  def handle_call(:enter_test, _from, state), do: {:reply, :ok, state}

  @impl true
  def handle_cast({:test_started, %{state: nil} = test}, state) do
    {:noreply, note(%{state | running: [describe(test, state) | state.running]})}
  end

  def handle_cast({:test_finished, %{state: {:excluded, _}} = test}, state) do
    {:noreply, ended({test.module, test.name}, %{state | excluded: state.excluded + 1})}
  end

  def handle_cast({:test_finished, test}, state) do
    state = ended({test.module, test.name}, state)
    description = describe(test, state)
    state = note(%{state | running: List.delete(state.running, description)})
    {:noreply, if(wanted?(description, state), do: report(test, description, state), else: state)}
  end

  def handle_cast({:module_finished, %{state: {:failed, failures}} = module}, state) do
    text = ExUnit.Formatter.format_test_all_failure(module, failures, state.failed + 1, @width, &format/2)
    state = ended(module.name, state)
    {:noreply, %{state | errors: [{"#{inspect(module.name)}: #{headline(failures)}", text} | state.errors]}}
  end

  def handle_cast({:module_finished, module}, state), do: {:noreply, ended(module.name, state)}

  def handle_cast(:max_failures_reached, state), do: {:noreply, %{state | max_failures: true}}

  def handle_cast({:suite_finished, _times}, state) do
    send(state.reply_to, {@name, result(state)})
    {:noreply, state}
  end

  def handle_cast(_other, state), do: {:noreply, state}

  defp ended(test_or_module, state), do: %{state | ended: [test_or_module | state.ended]}

  defp note(%{running: []} = state) do
    Agent.note_running("before its tests were done", [])
    state
  end

  defp note(state) do
    where = "while #{Enum.map_join(state.running, " and ", & &1.id)} ran"
    Agent.note_running(Text.line(where), Enum.map(state.running, &Map.merge(&1, message("error"))))
    state
  end

  defp wanted?(_description, %{wanted: nil}), do: true
  defp wanted?(description, %{wanted: wanted}), do: description.id in wanted

  defp report(test, description, state) do
    {status, message, details} = outcome(test, state)
    # What ExUnit captured of the log.
    if test.logs != "", do: IO.write(Text.clean(test.logs))
    details = if status == "failed" and test.logs != "", do: "#{details}\n#{logged(test.logs)}", else: details
    sizes = %{message: Text.line(message), details: Text.cut(details), seconds: test.time / 1_000_000}
    Agent.send_message(description |> Map.merge(message(status)) |> Map.merge(sizes))
    failed = if status in ~w(failed error), do: 1, else: 0
    %{state | run: state.run + 1, failed: state.failed + failed}
  end

  defp message(status), do: %{type: "test", status: status, seconds: 0, message: "", details: ""}

  defp outcome(%{state: nil}, _state), do: {"passed", "", ""}
  defp outcome(%{state: {:skipped, reason}}, _state), do: {"skipped", reason, ""}

  defp outcome(%{state: {:failed, failures}} = test, state) do
    text = ExUnit.Formatter.format_test_failure(test, failures, state.failed + 1, @width, &format/2)
    {"failed", headline(failures), text}
  end

  # `setup_all` failed, and with it every test of the module.
  defp outcome(%{state: {:invalid, %{state: {:failed, failures}} = module}}, state) do
    text = ExUnit.Formatter.format_test_all_failure(module, failures, state.failed + 1, @width, &format/2)
    {"error", "failure on setup_all callback: #{headline(failures)}", text}
  end

  defp headline([{kind, reason, stack} | _]) do
    case reason do
      %ExUnit.AssertionError{} -> Exception.message(reason)
      _ -> Exception.format_banner(unlinked(kind), reason, stack)
    end
  end

  # A test process that was killed by a process linked to it.
  defp unlinked({:EXIT, _pid}), do: :exit
  defp unlinked(kind), do: kind

  # As ExUnit prints it where there are no colours.
  defp format(:diff_enabled?, _), do: false
  defp format(_kind, text), do: text

  defp logged(logs), do: "     The following output was logged:\n\n     " <> String.replace(logs, "\n", "\n     ")

  defp describe(test, state) do
    id = id(test)
    file = Path.relative_to(test.tags.file, state.workspace)
    %{id: Text.clean(id), name: Text.clean(id), file: file, line: test.tags.line}
  end

  defp result(state) do
    ended = MapSet.new(state.ended)
    over? = fn {module, _} = test -> MapSet.member?(ended, module) or MapSet.member?(ended, test) end
    lost = for {test, id} <- state.expected, not over?.(test), do: id
    if state.errors == [] and not state.max_failures and lost != [], do: lost(lost, state), else: judge(state)
  end

  # A run of ExUnit's that the file has started itself took them, or a test ended what runs them.
  defp lost(ids, state) do
    {were, their} = if match?([_], ids), do: {"was", "its"}, else: {"were", "their"}
    all = map_size(state.expected)
    of = if all == 1, do: "its test", else: "#{length(ids)} of its #{all} tests"
    details = "Nothing is known of\n" <> Enum.map_join(Enum.sort(ids), &"  #{&1}\n")
    finished("failed", "#{of} #{were} run by somebody else, or not to #{their} end", details)
  end

  defp judge(%{errors: [_ | _]} = state) do
    {messages, details} = state.errors |> Enum.reverse() |> Enum.unzip()
    finished("failed", "failure on setup_all callback: #{Enum.join(messages, "; ")}", Enum.join(details, "\n"))
  end

  defp judge(%{max_failures: true}), do: finished("failed", "--max-failures was reached: tests may be left", "")
  defp judge(%{failed: failed}) when failed > 0, do: finished("failed", "", "")
  defp judge(%{run: 0, excluded: 0}), do: finished("passed", "no tests", "")
  defp judge(%{run: 0, excluded: excluded}), do: finished("passed", "no test ran: #{excluded} excluded", "")
  defp judge(_state), do: finished("passed", "", "")

  def finished(outcome, message, details) do
    %{type: "finished", outcome: outcome, message: Text.line(message), details: Text.cut(details)}
  end
end

defmodule DistributestWorker.Files do
  # Loads, runs and unloads files, one at a time.

  alias DistributestWorker.{Agent, CompilerTracer, Output, Recorder, Text}

  # Serves the agent until it has no more files. `prepare` is given each file, makes ready what it needs, and calls what
  # it is given beside, in the right place, with the path of the file there and the options to compile it with.
  def serve(workspace, prepare) do
    case Agent.next() do
      %{"type" => "run", "file" => file} = message ->
        Agent.note_running("before its tests were done", [])
        run = %{workspace: workspace, wanted: message["tests"]}
        result = prepare.(file, fn path, options -> in_a_process_of_its_own(fn -> run(path, options, run) end) end)
        Output.flush()
        Agent.note_idle()
        Agent.send_message(result)
        serve(workspace, prepare)

      %{"type" => "quit"} ->
        :ok
    end
  end

  # What a file leaves in its process (messages, links, the dictionary) goes with it.
  defp in_a_process_of_its_own(work) do
    {pid, reference} = spawn_monitor(fn -> exit({:result, work.()}) end)

    receive do
      {:DOWN, ^reference, :process, ^pid, {:result, result}} -> result
      {:DOWN, ^reference, :process, ^pid, reason} -> leave(reason)
    end
  end

  # ExUnit itself died, and is in the middle of something. The supervisor says so of the file.
  defp leave(reason) do
    IO.puts(:stderr, "distributest: ExUnit died: #{Exception.format_exit(reason)}")
    System.halt(1)
  end

  defp run(file, compiler_options, run) do
    case load(file, compiler_options) do
      :ok -> run_loaded(file, run)
      broken -> with(_ <- unload(file, []), do: broken)
    end
  end

  defp run_loaded(file, run) do
    modules = CompilerTracer.take_modules(file)
    {chosen, missing} = choose(modules, run.wanted)
    result = run_modules(chosen, Map.put(run, :expected, expected(CompilerTracer.take_test_cases(file), chosen)))
    unload(file, modules)

    if missing == [] do
      result
    else
      Recorder.finished("failed", "no such test: #{Enum.join(missing, ", ")}", "")
    end
  end

  defp load(file, compiler_options) do
    previous = Code.compiler_options(compiler_options)

    try do
      Code.compile_file(file)
      :ok
    catch
      kind, reason ->
        details = Exception.format(kind, reason, Enum.reject(__STACKTRACE__, &worker_frame?/1))
        IO.puts(:stderr, Text.clean(details))
        Recorder.finished("broken", Exception.format_banner(kind, reason, __STACKTRACE__), details)
    after
      Code.compiler_options(previous)
    end
  end

  defp worker_frame?({module, _, _, _}), do: String.starts_with?(inspect(module), "DistributestWorker.")

  # Of the tests asked for, those there are, as ExUnit's option `:only_test_ids` has them, and the ids of the others.
  defp choose(_modules, nil), do: {nil, []}

  defp choose(modules, wanted) do
    tests = for test <- tests_of(modules), do: {Recorder.id(test), {test.module, test.name}}
    # The parameters of a test follow its name.
    chosen? = fn id -> Enum.any?(wanted, &(&1 == id or String.starts_with?(&1, id <> " "))) end
    chosen = for {id, key} <- tests, chosen?.(id), do: key
    there? = fn asked -> Enum.any?(tests, fn {id, _} -> asked == id or String.starts_with?(asked, id <> " ") end) end
    {MapSet.new(chosen), Enum.reject(wanted, there?)}
  end

  # The tests that ExUnit has to tell of, and their ids.
  defp expected(test_cases, chosen) do
    tests = for test <- tests_of(test_cases), do: {{test.module, test.name}, Recorder.id(test)}
    for {key, id} <- tests, chosen == nil or MapSet.member?(chosen, key), into: %{}, do: {key, id}
  end

  defp tests_of(modules) do
    for module <- modules, function_exported?(module, :__ex_unit__, 0), test <- module.__ex_unit__().tests, do: test
  end

  defp run_modules(chosen, run) do
    run = Map.put(run, :reply_to, self())
    ExUnit.configure(distributest: run, formatters: [Recorder], only_test_ids: chosen)
    sums = ExUnit.run()
    DistributestWorker.Suite.add(sums)

    receive do
      {Recorder, result} -> result
    end
  end

  # Modules are not purged at once: a process or a handler that the file has left behind may need them.
  defp unload(file, modules) do
    # A file that did not load may have defined test cases, which ExUnit would run with the next file's.
    ExUnit.configure(formatters: [], only_test_ids: MapSet.new())
    if modules == [], do: ExUnit.run()
    CompilerTracer.take_test_cases(file)

    for module <- modules ++ CompilerTracer.take_modules(file) do
      :code.purge(module)
      :code.delete(module)
    end
  end
end
