%% ---------------------------------------------------------------------------------------------------------------------
%% What every worker program in Erlang needs: the conversation with the agent, and text fit for it.
%%
%% This stands behind the part of a framework, in one module (see proto/worker.md). The virtual machine it runs in is
%% watched over by `beam_supervisor.sh`, for which it keeps notes on what it is doing.

-define(AGENT, distributest_agent).
-define(LINE_BYTES, 65536).
-define(LONGEST_MESSAGE, 1000).
-define(LONGEST_DETAILS, (1024 * 1024)).

%% The agent's end of the socket, and the notes for the supervisor, in a process of their own. The descriptor is a port to
%% the virtual machine, which does not hand it on to the programs that tests start. When the agent is gone, or a test has
%% closed the port, nobody wants to know how this ends: the virtual machine leaves at once.
%%
%% Returns the scratch directory.
start_agent() ->
    Descriptor = list_to_integer(os:getenv("DISTRIBUTEST_FD")),
    Scratch = os:getenv("DISTRIBUTEST_SCRATCH"),
    [os:unsetenv(Name) || Name <- ["DISTRIBUTEST_FD", "DISTRIBUTEST_SCRATCH", "DISTRIBUTEST_ISOLATION", "DISTRIBUTEST_MAY_STAY"]],
    Worker = self(),
    % By SIGQUIT the agent asks those for their stacks who catch it, and the virtual machine would end on it.
    ok = os:set_signal(sigquit, default),
    spawn_link(fun() -> agent(Worker, Descriptor, filename:join(Scratch, "notes")) end),
    receive {?AGENT, started} -> Scratch end.

agent(Worker, Descriptor, NotesFile) ->
    register(?AGENT, self()),
    process_flag(trap_exit, true),
    {ok, Notes} = file:open(NotesFile, [read, write, raw]),
    Port = open_port({fd, Descriptor, Descriptor}, [binary, eof, {line, ?LINE_BYTES}]),
    Worker ! {?AGENT, started},
    agent(#{port => Port, notes => Notes, received => [], messages => [], waiting => none, running => #{}}).

%% The next message of the agent; waits for it.
next_message() -> call_agent(next).

send_message(Message) -> call_agent({send, Message}).

%% Notes for the supervisor: that a file runs, or that none does, and which tests run in it, each under a key of its own and
%% told by the process it runs in.
note_file() -> call_agent(note_file).
note_idle() -> call_agent(note_idle).
note_test(Key, Test) -> call_agent({note_test, Key, Test}).
note_end(Key) -> call_agent({note_end, Key}).

call_agent(Request) ->
    Reference = monitor(process, ?AGENT),
    ?AGENT ! {call, self(), Reference, Request},
    receive
        {Reference, Reply} -> demonitor(Reference, [flush]), Reply;
        {'DOWN', Reference, _, _, _} -> halt(1)
    end.

agent(#{port := Port, received := Received} = State) ->
    receive
        {call, From, Reference, next} -> agent(hand_over(State#{waiting := {From, Reference}}));
        {call, From, Reference, Request} ->
            State1 = handle_agent(Request, From, State),
            From ! {Reference, ok},
            agent(State1);
        {Port, {data, {noeol, Part}}} -> agent(State#{received := [Received, Part]});
        {Port, {data, {eol, Part}}} -> agent(take_line(string:trim(iolist_to_binary([Received, Part])), State));
        {Port, eof} -> halt(1, [{flush, false}]);
        {'EXIT', _, _} -> halt(1);
        _Stray -> agent(State)
    end.

handle_agent({send, Message}, _, #{port := Port} = State) ->
    port_command(Port, [encode(Message), $\n]),
    State;
handle_agent(note_file, _, State) -> write_notes(State#{running := #{}});
handle_agent(note_idle, _, #{notes := Notes} = State) ->
    ok = file:pwrite(Notes, 0, "idle\n"),
    State;
handle_agent({note_test, Key, Test}, From, #{running := Running} = State) ->
    % What ran in this process before has ended, and what ran in one that is no more.
    Others = maps:filter(fun(Process, _) -> is_process_alive(Process) end, Running),
    write_notes(State#{running := Others#{From => {Key, Test}}});
handle_agent({note_end, Ended}, _, #{running := Running} = State) ->
    write_notes(State#{running := maps:filter(fun(_, {Key, _}) -> Key =/= Ended end, Running)}).

write_notes(#{notes := Notes, running := Running} = State) ->
    Tests = [Test || {_, Test} <- maps:values(Running)],
    Where = case [maps:get(id, Test) || Test <- Tests] of
        [] -> <<"before its tests were done">>;
        Ids -> [<<"while ">>, lists:join(<<" and ">>, Ids), <<" ran">>]
    end,
    Lines = [[open_message(Test), $\n] || Test <- Tests],
    ok = file:pwrite(Notes, 0, [<<"running\n">>, escape(text_line(Where)), $\n, Lines, <<"end\n">>]),
    State.

take_line(<<>>, State) -> State#{received := []};
take_line(Line, #{messages := Messages} = State) ->
    hand_over(State#{received := [], messages := Messages ++ [decode(Line)]}).

hand_over(#{waiting := {From, Reference}, messages := [Message | Rest]} = State) ->
    From ! {Reference, Message},
    State#{waiting := none, messages := Rest};
hand_over(State) -> State.

%% ---------------------------------------------------------------------------------------------------------------------
%% As much of JSON as the protocol needs

encode(Message) when is_map(Message) ->
    [${, lists:join($,, [[encode(atom_to_list(Key)), $:, encode(Value)] || {Key, Value} <- maps:to_list(Message)]), $}];
encode(null) -> <<"null">>;
encode(Number) when is_integer(Number) -> integer_to_list(Number);
encode(Number) when is_float(Number) -> io_lib:format("~.6f", [Number]);
encode(Text) -> [$", escape(Text), $"].

%% A message that ends within the text of its `message`.
open_message(Message) ->
    Encoded = iolist_to_binary(encode(maps:remove(message, Message))),
    [binary:part(Encoded, 0, byte_size(Encoded) - 1), <<",\"message\":\"">>].

escape(Text) -> [escape_byte(Byte) || <<Byte>> <= clean(Text)].

escape_byte($") -> <<"\\\"">>;
escape_byte($\\) -> <<"\\\\">>;
escape_byte($\n) -> <<"\\n">>;
escape_byte($\t) -> <<"\\t">>;
escape_byte(Byte) when Byte < 16#20 -> io_lib:format("\\u~4.16.0b", [Byte]);
escape_byte(Byte) -> Byte.

decode(Text) ->
    {Value, _} = value(string:trim(Text)),
    Value.

value(<<"{", Rest/binary>>) -> members(skip(Rest), #{});
value(<<"[", Rest/binary>>) -> items(skip(Rest), []);
value(<<"\"", Rest/binary>>) -> string(Rest, <<>>);
value(<<"true", Rest/binary>>) -> {true, Rest};
value(<<"false", Rest/binary>>) -> {false, Rest};
value(<<"null", Rest/binary>>) -> {null, Rest};
value(Text) ->
    % No message of this version has a number that means something here.
    [_, Rest] = re:split(Text, "^[-+.0-9eE]+", [{parts, 2}]),
    {number, Rest}.

skip(Text) -> string:trim(Text, leading).

members(<<"}", Rest/binary>>, Map) -> {Map, Rest};
members(<<",", Rest/binary>>, Map) -> members(skip(Rest), Map);
members(<<"\"", Text/binary>>, Map) ->
    {Key, Rest} = string(Text, <<>>),
    <<":", Rest1/binary>> = skip(Rest),
    {Value, Rest2} = value(skip(Rest1)),
    members(skip(Rest2), Map#{Key => Value}).

items(<<"]", Rest/binary>>, Items) -> {lists:reverse(Items), Rest};
items(<<",", Rest/binary>>, Items) -> items(skip(Rest), Items);
items(Text, Items) ->
    {Item, Rest} = value(Text),
    items(skip(Rest), [Item | Items]).

string(<<"\"", Rest/binary>>, Text) -> {Text, Rest};
string(<<"\\u", Digits:4/binary, Rest/binary>>, Text) -> unit(binary_to_integer(Digits, 16), Rest, Text);
string(<<"\\", Escaped, Rest/binary>>, Text) -> string(Rest, <<Text/binary, (unescape(Escaped))>>);
string(<<Byte, Rest/binary>>, Text) -> string(Rest, <<Text/binary, Byte>>).

%% The first half of a surrogate pair has the other one behind it.
unit(High, <<"\\u", Digits:4/binary, Rest/binary>>, Text) when High >= 16#D800, High =< 16#DBFF ->
    Code = 16#10000 + (High - 16#D800) * 16#400 + binary_to_integer(Digits, 16) - 16#DC00,
    string(Rest, <<Text/binary, Code/utf8>>);
unit(Code, Rest, Text) -> string(Rest, <<Text/binary, Code/utf8>>).

unescape($n) -> $\n;
unescape($t) -> $\t;
unescape($r) -> $\r;
unescape($b) -> $\b;
unescape($f) -> $\f;
unescape(Other) -> Other.

%% ---------------------------------------------------------------------------------------------------------------------
%% Text that fits into a message

format(Format, Arguments) -> clean(io_lib:format(Format, Arguments)).

%% UTF-8, whatever is given: bytes that are not become U+FFFD.
clean(Text) ->
    case unicode:characters_to_binary(Text) of
        Clean when is_binary(Clean) -> Clean;
        {_, Clean, Rest} -> clean_rest(Clean, unicode_rest(Rest))
    end.

clean_rest(Clean, <<_, Rest/binary>>) -> <<Clean/binary, 16#FFFD/utf8, (clean(Rest))/binary>>;
clean_rest(Clean, <<>>) -> Clean.

%% What could not be converted: a binary, or a list with such a binary, or with a number that is no character, in it.
unicode_rest(Rest) when is_binary(Rest) -> Rest;
unicode_rest([First | Rest]) when is_integer(First) -> <<255, (clean(Rest))/binary>>;
unicode_rest([First | Rest]) -> <<(unicode_rest(First))/binary, (clean(Rest))/binary>>;
unicode_rest([]) -> <<>>.

%% The first paragraph, on one line.
text_line(Text) ->
    % Looked for where it must be, if it is to be of use.
    Start = lists:sublist(characters(string:trim(clean(Text), leading)), 4 * ?LONGEST_MESSAGE),
    [Paragraph | _] = re:split(string:trim(Start), "\\n\\s*\\n", [{parts, 2}, unicode]),
    Words = [Word || Word <- re:split(Paragraph, "\\s+", [unicode]), Word =/= <<>>],
    Line = characters(lists:join($\s, Words)),
    case length(Line) =< ?LONGEST_MESSAGE of
        true -> clean(Line);
        false -> clean([lists:sublist(Line, ?LONGEST_MESSAGE), "…"])
    end.

cut(Text) ->
    Characters = characters(Text),
    LeftOut = length(Characters) - ?LONGEST_DETAILS,
    case LeftOut > 0 of
        false -> clean(Characters);
        true ->
            {First, Rest} = lists:split(?LONGEST_DETAILS div 2, Characters),
            Note = io_lib:format("~n[… ~b characters left out …]~n", [LeftOut]),
            clean([First, Note, lists:nthtail(LeftOut, Rest)])
    end.

characters(Text) -> unicode:characters_to_list(clean(Text)).

%% ---------------------------------------------------------------------------------------------------------------------
%% Output

%% Waits until everything written so far to standard output and error is out.
flush_output() ->
    [io:put_chars(Device, "") || Device <- [user, standard_error]],
    [wait_until_empty(Port) || Port <- erlang:ports(), is_output(erlang:port_info(Port, name))],
    ok.

%% From Erlang 26 on these are no ports, and what is written is out when `io:put_chars` returns.
is_output({name, Name}) -> lists:member(Name, ["0/1", "1/1", "2/2"]);
is_output(undefined) -> false.

wait_until_empty(Port) ->
    case erlang:port_info(Port, queue_size) of
        {queue_size, Bytes} when Bytes > 0 -> timer:sleep(1), wait_until_empty(Port);
        _ -> ok
    end.
