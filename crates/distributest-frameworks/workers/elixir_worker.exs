# What every worker program in Elixir needs: the conversation with the agent, and text fit for it.
#
# A worker program is this file with the one of its framework behind it, as one text (see proto/worker.md). The virtual
# machine it runs in is watched over by `beam_supervisor.sh`, for which it keeps notes on what it is doing.

defmodule DistributestWorker.Agent do
  # The agent's end of the socket, and the notes for the supervisor, in a process of their own.
  #
  # The descriptor is a port to the virtual machine, which does not hand it on to the programs that tests start. When the
  # agent is gone, or a test has closed the port, nobody wants to know how this ends: the virtual machine leaves at once.

  use GenServer

  @name __MODULE__
  # Longer lines come in pieces.
  @line_bytes 65_536

  def start_link do
    descriptor = String.to_integer(System.fetch_env!("DISTRIBUTEST_FD"))
    notes = Path.join(System.fetch_env!("DISTRIBUTEST_SCRATCH"), "notes")
    Enum.each(~w(DISTRIBUTEST_FD DISTRIBUTEST_SCRATCH DISTRIBUTEST_ISOLATION DISTRIBUTEST_MAY_STAY), &System.delete_env/1)
    GenServer.start_link(__MODULE__, {descriptor, notes}, name: @name)
  end

  # The next message of the agent; waits for it.
  def next, do: GenServer.call(@name, :next, :infinity)

  def send_message(message), do: GenServer.call(@name, {:send, message}, :infinity)

  def send_ready(framework, version) do
    send_message(%{type: "ready", protocol: 1, framework: framework, version: version, runtime: runtime()})
  end

  # What runs the tests, and on what kind of machine. Nothing where dependencies are outside of the project: nobody knows what
  # they hold.
  defp runtime do
    items = for item <- [:otp_release, :version, :system_architecture], do: :erlang.system_info(item)
    project = File.cwd!() <> "/"
    has_mix = List.keymember?(Application.started_applications(), :mix, 0) and Mix.Project.get() != nil
    dependencies = if has_mix, do: Map.values(Mix.Project.deps_paths()), else: []
    outside = Enum.reject(dependencies, &String.starts_with?(Path.expand(&1), project))
    if outside == [], do: "Erlang/OTP #{Enum.join(items, " ")}", else: ""
  end

  # Notes that a file runs, and which of its tests: messages to which only the text of their `message` is missing.
  def note_running(where, tests) do
    lines = for test <- tests, do: [DistributestWorker.Json.open_message(test), ?\n]
    GenServer.call(@name, {:note, ["running\n", DistributestWorker.Json.escape(where), ?\n, lines, "end\n"]}, :infinity)
  end

  def note_idle, do: GenServer.call(@name, {:note, "idle\n"}, :infinity)

  @impl true
  def init({descriptor, notes}) do
    Process.flag(:trap_exit, true)
    {:ok, notes} = :file.open(notes, [:read, :write, :raw])
    port = Port.open({:fd, descriptor, descriptor}, [:binary, :eof, {:line, @line_bytes}])
    {:ok, %{port: port, notes: notes, received: [], messages: :queue.new(), waiting: nil}}
  end

  @impl true
  def handle_call(:next, from, state), do: {:noreply, hand_over(%{state | waiting: from})}

  def handle_call({:send, message}, _from, state) do
    Port.command(state.port, [DistributestWorker.Json.encode(message), ?\n])
    {:reply, :ok, state}
  end

  def handle_call({:note, text}, _from, state) do
    :ok = :file.pwrite(state.notes, 0, text)
    {:reply, :ok, state}
  end

  @impl true
  def handle_info({port, {:data, {:noeol, part}}}, %{port: port} = state) do
    {:noreply, %{state | received: [state.received, part]}}
  end

  def handle_info({port, {:data, {:eol, part}}}, %{port: port} = state) do
    line = String.trim(IO.iodata_to_binary([state.received, part]))
    state = %{state | received: []}
    if line == "", do: {:noreply, state}, else: {:noreply, take(DistributestWorker.Json.decode(line), state)}
  end

  def handle_info({port, :eof}, %{port: port}), do: :erlang.halt(1, flush: false)
  def handle_info({:EXIT, _port_or_parent, _reason}, _state), do: :erlang.halt(1)
  def handle_info(_stray, state), do: {:noreply, state}

  defp take(message, state), do: hand_over(%{state | messages: :queue.in(message, state.messages)})

  defp hand_over(%{waiting: nil} = state), do: state

  defp hand_over(state) do
    case :queue.out(state.messages) do
      {{:value, message}, rest} ->
        GenServer.reply(state.waiting, message)
        %{state | messages: rest, waiting: nil}

      {:empty, _} ->
        state
    end
  end
end

defmodule DistributestWorker.Json do
  # As much of JSON as the protocol needs.

  def encode(message) when is_map(message) do
    ["{", Enum.map_intersperse(message, ",", fn {key, value} -> [encode(to_string(key)), ":", encode(value)] end), "}"]
  end

  def encode(nil), do: "null"
  def encode(number) when is_number(number), do: to_string(number)
  def encode(text), do: [?", escape(text), ?"]

  # A message that ends within the text of its `message`.
  def open_message(message) do
    message = Map.delete(message, :message)
    [message |> encode() |> IO.iodata_to_binary() |> String.trim_trailing("}"), ~s(,"message":")]
  end

  def escape(text) do
    for <<byte <- DistributestWorker.Text.clean(text)>>, into: "", do: escape_byte(byte)
  end

  defp escape_byte(?"), do: ~S(\")
  defp escape_byte(?\\), do: ~S(\\)
  defp escape_byte(?\n), do: ~S(\n)
  defp escape_byte(?\t), do: ~S(\t)
  defp escape_byte(byte) when byte < 0x20, do: "\\u00" <> Base.encode16(<<byte>>)
  defp escape_byte(byte), do: <<byte>>

  def decode(text) do
    {value, ""} = text |> String.trim() |> value()
    value
  end

  defp value("{" <> rest), do: rest |> String.trim_leading() |> members(%{})
  defp value("[" <> rest), do: rest |> String.trim_leading() |> items([])
  defp value("\"" <> rest), do: string(rest, "")
  defp value("true" <> rest), do: {true, rest}
  defp value("false" <> rest), do: {false, rest}
  defp value("null" <> rest), do: {nil, rest}
  defp value(text), do: Float.parse(text)

  defp members("}" <> rest, map), do: {map, rest}

  defp members("," <> rest, map), do: rest |> String.trim_leading() |> members(map)

  defp members("\"" <> rest, map) do
    {key, rest} = string(rest, "")
    ":" <> rest = String.trim_leading(rest)
    {value, rest} = rest |> String.trim_leading() |> value()
    rest |> String.trim_leading() |> members(Map.put(map, key, value))
  end

  defp items("]" <> rest, items), do: {Enum.reverse(items), rest}
  defp items("," <> rest, items), do: rest |> String.trim_leading() |> items(items)

  defp items(text, items) do
    {item, rest} = value(text)
    rest |> String.trim_leading() |> items([item | items])
  end

  defp string("\"" <> rest, text), do: {text, rest}
  defp string("\\u" <> <<digits::binary-4, rest::binary>>, text), do: unit(String.to_integer(digits, 16), rest, text)
  defp string("\\" <> <<escaped, rest::binary>>, text), do: string(rest, text <> unescape(escaped))
  defp string(<<byte, rest::binary>>, text), do: string(rest, <<text::binary, byte>>)

  # The first half of a surrogate pair has the other one behind it.
  defp unit(high, "\\u" <> <<digits::binary-4, rest::binary>>, text) when high in 0xD800..0xDBFF do
    code = 0x10000 + (high - 0xD800) * 0x400 + String.to_integer(digits, 16) - 0xDC00
    string(rest, <<text::binary, code::utf8>>)
  end

  defp unit(code, rest, text), do: string(rest, <<text::binary, code::utf8>>)

  defp unescape(?n), do: "\n"
  defp unescape(?t), do: "\t"
  defp unescape(?r), do: "\r"
  defp unescape(?b), do: "\b"
  defp unescape(?f), do: "\f"
  defp unescape(other), do: <<other>>
end

defmodule DistributestWorker.Text do
  # Text that fits into a message.

  @longest_message 1000
  @longest_details 1024 * 1024

  def clean(value) do
    text = to_string(value)
    if String.valid?(text), do: text, else: text |> String.chunk(:valid) |> Enum.map_join(&replace_invalid/1)
  end

  defp replace_invalid(chunk),
    do: if(String.valid?(chunk), do: chunk, else: String.duplicate("\uFFFD", byte_size(chunk)))

  # The first paragraph, on one line.
  def line(value) do
    # Looked for where it must be, if it is to be of use.
    start = value |> clean() |> String.trim_leading() |> String.slice(0, 4 * @longest_message) |> String.trim()
    [paragraph | _] = String.split(start, ~r/\n\s*\n/, parts: 2)
    line = paragraph |> String.split() |> Enum.join(" ")
    if String.length(line) <= @longest_message, do: line, else: String.slice(line, 0, @longest_message) <> "…"
  end

  def cut(value) do
    text = clean(value)
    # Characters are counted only where they may be too many.
    if byte_size(text) <= @longest_details, do: text, else: cut_middle(text, String.to_charlist(text))
  end

  defp cut_middle(text, characters) do
    left_out = length(characters) - @longest_details

    if left_out > 0 do
      {first, rest} = Enum.split(characters, div(@longest_details, 2))
      "#{first}\n[… #{left_out} characters left out …]\n#{Enum.drop(rest, left_out)}"
    else
      text
    end
  end
end

defmodule DistributestWorker.Output do
  # Waits until everything written so far to standard output and error is out.

  def flush do
    if Process.whereis(Logger), do: Logger.flush()
    Enum.each([:stdio, :stderr], &IO.write(&1, ""))
    Enum.each(Port.list(), &drain(&1, Port.info(&1, :name)))
  end

  # From Erlang 26 on these are no ports, and what is written is out when `IO.write` returns.
  defp drain(port, {:name, name}) when name in ['0/1', '1/1', '2/2'], do: wait_until_empty(port)
  defp drain(_port, _name), do: :ok

  defp wait_until_empty(port) do
    case Port.info(port, :queue_size) do
      {:queue_size, bytes} when bytes > 0 ->
        Process.sleep(1)
        wait_until_empty(port)

      _ ->
        :ok
    end
  end
end

defmodule DistributestWorker.Stacks do
  # Tells what the processes of the tests are doing, on SIGQUIT, by which the agent asks for it when a file has taken too
  # long. Other signals are handled as before.

  @shown_processes 8
  @shown_calls 12

  def tell_when_asked do
    :gen_event.swap_handler(:erl_signal_server, {:erl_signal_handler, []}, {__MODULE__, []})
  end

  def init({_arguments, state}), do: {:ok, state}
  def handle_call(_request, state), do: {:ok, :ok, state}
  def handle_info(_message, state), do: {:ok, state}

  def handle_event(:sigquit, state) do
    stacks = for pid <- Process.list(), calls = calls_of_tests(pid), do: {pid, calls}
    IO.write(:stderr, stacks |> Enum.take(-@shown_processes) |> Enum.map(&tell/1))
    {:ok, state}
  end

  def handle_event(signal, state), do: :erl_signal_handler.handle_event(signal, state)

  # Processes of the virtual machine have names, belong to applications or wait for messages; others are the worker's own.
  defp calls_of_tests(pid) do
    with :undefined <- :application.get_application(pid),
         [registered_name: [], current_stacktrace: [{innermost, _, _, _} | _] = calls] when innermost != :gen_server <-
           Process.info(pid, [:registered_name, :current_stacktrace]),
         false <- Enum.any?(calls, fn {module, _, _, _} -> String.starts_with?("#{module}", "#{DistributestWorker}.") end) do
      calls
    else
      _ -> nil
    end
  end

  defp tell({pid, calls}) do
    "#{inspect(pid)} (most recent call first):\n#{calls |> Enum.take(@shown_calls) |> Exception.format_stacktrace()}"
  end
end
