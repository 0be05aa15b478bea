%% ---------------------------------------------------------------------------------------------------------------------
%% Serving the agent: file after file

serve(State) ->
    case next_message() of
        #{<<"type">> := <<"run">>, <<"file">> := File} = Message ->
            note_file(),
            Result = run_file(binary_to_list(File), maps:get(<<"tests">>, Message, all), State),
            flush_output(),
            note_idle(),
            send_message(Result),
            serve(State);
        #{<<"type">> := <<"quit">>} -> ok
    end.

run_file(File, Wanted, #{failed := Failed} = State) ->
    Module = list_to_atom(filename:basename(File, ".erl")),
    case {Failed, filelib:is_regular(File)} of
        {#{File := Errors}, _} -> finished(<<"broken">>, [<<"it does not compile: ">>, Errors], Errors);
        {_, false} -> finished(<<"broken">>, <<"there is no such file">>, "");
        _ ->
            case code:ensure_loaded(Module) of
                {module, Module} -> run_module(Module, File, Wanted, State);
                {error, Reason} -> finished(<<"broken">>, format("its module can't be loaded: ~tp", [Reason]), "")
            end
    end.

finished(Outcome, Message, Details) ->
    #{type => <<"finished">>, outcome => Outcome, message => text_line(Message), details => cut(Details)}.

run_module(Module, File, Wanted, #{options := Options}) ->
    Run = #{file => list_to_binary(File), wanted => Wanted, lines => lines_of_functions(Module)},
    Functions = [Name || {Name, 0} <- Module:module_info(exports), is_test(Name) orelse is_generator(Name)],
    Places = [Place || Name <- Functions, Place <- [place(Module, Name, Run)], is_wanted(Place)],
    {Ids, Failed} = lists:unzip([run_tests(Tests, Place, Options) || {Tests, Place} <- runs(Module, Places, Run)]),
    ets:delete_all_objects(?LABELS),
    result(lists:append(Ids), lists:sum(Failed), Wanted).

result(Ids, Failed, all) ->
    if
        Failed > 0 -> finished(<<"failed">>, "", "");
        Ids =:= [] -> finished(<<"passed">>, <<"no tests">>, "");
        true -> finished(<<"passed">>, "", "")
    end;
result(Ids, Failed, Wanted) ->
    case Wanted -- Ids of
        [] -> result(Ids, Failed, all);
        Missing when Failed =:= 0 -> finished(<<"failed">>, [<<"no such test: ">>, lists:join(", ", Missing)], "");
        % What failed may have cancelled others.
        Missing -> finished(<<"failed">>, [<<"no such test, or not run: ">>, lists:join(", ", Missing)], "")
    end.

%% What EUnit is to run, one after the other. A wrapper around all tests of a module makes them one.
runs(_, [], _) -> [];
runs(Module, Places, Run) ->
    Tests = [{tests_of(Place), Place} || Place <- Places],
    case erlang:function_exported(Module, eunit_wrapper_, 1) of
        true ->
            All = [OfFunction || {OfFunction, _} <- Tests],
            [{{generator, fun() -> Module:eunit_wrapper_(All) end}, place(Module, eunit_wrapper_, Run)}];
        false -> Tests
    end.

%% Where a test stands: in a function, at a path through a generator's lists, below titles.
place(Module, Function, #{lines := Lines} = Run) ->
    Id = format("~ts:~ts/0", [Module, Function]),
    Line = maps:get(Function, Lines, null),
    #{id => Id, path => [], titles => [], line => Line, location => {Module, Function}, run => Run}.

tests_of(#{location := {Module, Function}} = Place) ->
    case is_test(Function) of
        true -> label({test, Module, Function}, Place);
        false -> label({generator, Module, Function}, Place)
    end.

is_test(Function) -> lists:suffix("_test", atom_to_list(Function)).
is_generator(Function) -> lists:suffix("_test_", atom_to_list(Function)).

%% Whether an id is one of those wanted, or a group with one of them in it.
is_asked_for(_, all) -> true;
is_asked_for(Id, Wanted) -> lists:any(fun(Asked) -> Asked =:= Id orelse is_inside(Id, Asked) end, Wanted).

is_inside(Id, Asked) ->
    Part = trim_bracket(Id),
    Size = byte_size(Part),
    case Asked of
        <<Part:Size/binary, Next, _/binary>> -> lists:member(Next, "[.");
        _ -> false
    end.

trim_bracket(Id) -> string:trim(Id, trailing, "]").

lines_of_functions(Module) ->
    case beam_lib:chunks(code:which(Module), [abstract_code]) of
        {ok, {_, [{abstract_code, {_, Forms}}]}} ->
            maps:from_list([{Name, erl_anno:line(Place)} || {function, Place, Name, 0, _} <- Forms]);
        _ -> #{}
    end.

%% ---------------------------------------------------------------------------------------------------------------------
%% Running tests

%% Has EUnit run tests. Returns the ids reported, and the number of those that failed.
run_tests(Tests, Place, Options) ->
    Reference = make_ref(),
    Listener = {?MODULE, [{reply_to, {self(), Reference}}, {place, Place}]},
    eunit:test(Tests, [{report, Listener}, no_tty | Options]),
    receive {Reference, Ids, Failed} -> {Ids, Failed} end.

%% Labels the tests of a test set, in any of EUnit's representations of one, and leaves out those not wanted. What is no
%% test set stays as it is, for EUnit to complain about; so does what runs in another node, where this module is not.
label([], _) -> [];
label(Tests, Place) when is_list(Tests) ->
    % A text is the name of a file or directory.
    case is_text(Tests) of
        true -> Tests;
        false -> label_each(Tests, fun label/2, Place)
    end;
label({Line, Test}, Place) when is_integer(Line) -> {Line, label(Test, Place#{line := Line})};
label({{Module, Function, Arity}, Test}, Place) when is_atom(Module), is_atom(Function), is_integer(Arity) ->
    label(Test, Place);
label({generator, Generator}, Place) when is_function(Generator, 0) ->
    {generator, fun() -> label(Generator(), Place) end};
label({generator, Generator, Location}, Place) when is_function(Generator, 0) ->
    {generator, fun() -> label(Generator(), Place) end, Location};
label({generator, Module, Function}, Place) ->
    {generator, fun() -> label(Module:Function(), Place) end, {Module, Function, 0}};
label({with, Value, Tests}, Place) when is_list(Tests) ->
    label([fun() -> Test(Value) end || Test <- Tests], Place);
label({spawn, Node, Tests}, _) when is_atom(Node) -> {spawn, Node, Tests};
label(Tests, Place) when element(1, Tests) =:= setup -> label_fixture(Tests, fun label_instantiator/2, Place);
label(Tests, Place) when element(1, Tests) =:= foreach -> label_fixture(Tests, fun label_instantiators/2, Place);
label(Tests, Place) when element(1, Tests) =:= foreachx -> label_fixture(Tests, fun label_pairs/2, Place);
label(Tests, Place) when element(1, Tests) =:= spawn; element(1, Tests) =:= timeout;
                         element(1, Tests) =:= inorder; element(1, Tests) =:= inparallel ->
    label_last(Tests, fun label/2, Place);
label({test, Module, Function}, Place) -> leaf(eunit_test:mf_wrapper(Module, Function), Place);
label({Module, Function}, Place) when is_atom(Module), is_atom(Function) -> label({test, Module, Function}, Place);
label(Test, Place) when is_function(Test, 0) -> leaf(Test, Place);
label(Tests, #{titles := Titles} = Place) when is_tuple(Tests), tuple_size(Tests) > 1 ->
    [Title | Rest] = tuple_to_list(Tests),
    case is_text(Title) of
        true -> {Title, label(last_alone(Rest), Place#{titles := Titles ++ [Title]})};
        false -> Tests
    end;
label(Tests, _) -> Tests.

%% `{"title", T}` may be written with the elements of T in place of T.
last_alone([Tests]) -> Tests;
last_alone(Elements) -> list_to_tuple(Elements).

is_text(Text) when is_binary(Text) -> true;
is_text(Text) -> eunit_lib:is_string(Text).

label_last(Tests, Label, Place) ->
    Last = tuple_size(Tests),
    setelement(Last, Tests, Label(element(Last, Tests), Place)).

label_fixture(Tests, Label, Place) ->
    case element(2, Tests) of
        {spawn, Node} when is_atom(Node) -> Tests;
        _ -> label_last(Tests, Label, Place)
    end.

label_instantiator(Instantiator, Place) when is_function(Instantiator, 1) ->
    fun(Value) -> label(Instantiator(Value), Place) end;
label_instantiator({with, Tests}, Place) when is_list(Tests) ->
    fun(Value) -> label({with, Value, Tests}, Place) end;
label_instantiator(Tests, Place) -> label(Tests, Place).

label_instantiators(Instantiators, Place) -> label_each(Instantiators, fun label_instantiator/2, Place).

label_pairs(Pairs, Place) -> label_each(Pairs, fun label_pair/2, Place).

label_pair({X, Instantiator}, Place) when is_function(Instantiator, 2) ->
    {X, fun(Given, Value) -> label(Instantiator(Given, Value), Place) end};
label_pair(Other, _) -> Other.

label_each(Tests, Label, #{path := Path} = Place) ->
    Numbered = lists:zip(lists:seq(1, length(Tests)), Tests),
    Inner = fun(Number) -> Place#{path := Path ++ [Number]} end,
    [Label(Test, Inner(Number)) || {Number, Test} <- Numbered, is_wanted(Inner(Number))].

is_wanted(#{run := #{wanted := Wanted}} = Place) -> is_asked_for(place_id(Place), Wanted).

place_id(#{id := Id, path := []}) -> Id;
place_id(#{id := Id, path := Path}) -> format("~ts[~ts]", [Id, dotted(Path)]).

dotted(Numbers) -> lists:join(".", [integer_to_list(Number) || Number <- Numbers]).

%% EUnit tells the listener of a test by its module, function and arity: instead of the arity stands the label's number.
leaf(Test, #{location := {Module, Function}} = Place) ->
    Key = erlang:unique_integer([positive]),
    Description = describe(place_id(Place), Place),
    ets:insert(?LABELS, {Key, Description}),
    {{Module, Function, Key}, fun() -> note_test(Key, Description), Test() end}.

describe(Id, #{titles := Titles, line := Line, run := #{file := File}}) ->
    Name = clean(lists:join(" ", [Id | Titles])),
    Place = #{id => Id, name => Name, file => File, line => Line},
    Place#{type => <<"test">>, status => <<"error">>, seconds => 0, details => <<>>}.

%% ---------------------------------------------------------------------------------------------------------------------
%% Listening to EUnit

start(Options) -> eunit_listener:start(?MODULE, Options).

init(Options) ->
    receive
        {start, _Reference} ->
            State = maps:from_list(Options),
            State#{ids => [], failed => 0, without_reason => []}
    end.

handle_begin(_Kind, _Data, State) -> State.

handle_end(group, _Data, State) -> State;
handle_end(test, Data, State) ->
    Output = proplists:get_value(output, Data, <<>>),
    io:put_chars(clean(Output)),
    {Status, Message, Details} = outcome(proplists:get_value(status, Data), Output),
    report(Data, Status, Message, Details, State).

%% A test without a reason is in a group that has one, which comes next.
handle_cancel(test, Data, #{without_reason := Tests} = State) ->
    case proplists:get_value(reason, Data) of
        undefined -> State#{without_reason := [Data | Tests]};
        Reason -> report_cancelled(Data, "", Reason, State)
    end;
handle_cancel(group, Data, #{without_reason := Tests} = State) ->
    case {proplists:get_value(reason, Data), Tests} of
        {undefined, _} -> State;
        {{blame, _}, _} -> State;
        {Reason, []} -> report_cancelled(Data, <<"the group was cancelled: ">>, Reason, State);
        {Reason, _} ->
            Report = fun(Test, Reported) -> report_cancelled(Test, "", Reason, Reported) end,
            lists:foldr(Report, State#{without_reason := []}, Tests)
    end.

terminate(Result, #{without_reason := Tests, reply_to := {Worker, Reference}} = State) ->
    Report = fun(Test, Reported) -> report(Test, <<"error">>, <<"it was skipped">>, "", Reported) end,
    #{ids := Ids, failed := Failed} = terminate_result(Result, lists:foldr(Report, State, Tests)),
    Worker ! {Reference, Ids, Failed}.

terminate_result({ok, _}, State) -> State;
terminate_result({error, Reason}, State) -> report([], <<"error">>, format("EUnit failed: ~tp", [Reason]), "", State).

report_cancelled(Data, Group, Reason, State) ->
    {Status, Message, Details} = cancelled(Reason),
    report(Data, Status, [Group, Message], Details, State).

report(Data, Status, Message, Details, #{place := Place, ids := Ids, failed := Failed} = State) ->
    {Key, Description} = description(Data, Place),
    note_end(Key),
    Id = maps:get(id, Description),
    case is_asked_for(Id, maps:get(wanted, maps:get(run, Place))) orelse Status =/= <<"passed">> of
        true ->
            Seconds = proplists:get_value(time, Data, 0) / 1000,
            Result = #{status => Status, seconds => Seconds, message => text_line(Message), details => cut(Details)},
            send_message(maps:merge(Description, Result)),
            State#{ids := [Id | Ids], failed := Failed + if Status =:= <<"passed">> -> 0; true -> 1 end};
        false -> State
    end.

%% Of a test with a label; of one without, or of a group, by EUnit's own number for it.
description(Data, Place) ->
    Key = case proplists:get_value(source, Data) of
        {_, _, Number} -> Number;
        _ -> none
    end,
    case ets:lookup(?LABELS, Key) of
        [{Key, Description}] -> {Key, Description};
        [] -> {none, describe(eunit_id(Data, Place), title(proplists:get_value(desc, Data), Place))}
    end.

eunit_id(Data, #{id := Id}) ->
    case proplists:get_value(id, Data, []) of
        [] -> Id;
        Numbers -> format("~ts[#~ts]", [Id, dotted(Numbers)])
    end.

title(undefined, Place) -> Place;
title("", Place) -> Place;
title(Title, Place) -> Place#{titles := [Title]}.

outcome(ok, _Output) -> {<<"passed">>, "", ""};
outcome({error, Exception}, <<>>) -> {<<"failed">>, headline(Exception), eunit_lib:format_exception(Exception)};
outcome({error, Exception}, Output) ->
    Account = clean(eunit_lib:format_exception(Exception)),
    {<<"failed">>, headline(Exception), [Account, <<"\n  output:\n">>, clean(Output)]};
outcome({skipped, {module_not_found, Module}}, _) -> {<<"error">>, format("missing module: ~tp", [Module]), ""};
outcome({skipped, {no_such_function, {Module, Function, Arity}}}, _) ->
    {<<"error">>, format("no such function: ~tp:~tp/~tp", [Module, Function, Arity]), ""};
outcome({skipped, Reason}, _) -> {<<"error">>, format("it did not run: ~tp", [Reason]), ""}.

%% An assertion of EUnit's says what was expected; of it, everything but the place.
headline({error, {Assertion, [{module, _}, {line, _} | Information]}, _}) when is_atom(Assertion) ->
    [atom_to_list(Assertion), [[", ", atom_to_list(Key), ": ", value_text(Key, Value)] || {Key, Value} <- Information]];
headline({Class, Reason, _}) -> [atom_to_list(Class), ": ", term_text(Reason)].

value_text(Key, Text) when Key =:= expression; Key =:= pattern -> Text;
value_text(_, Value) -> term_text(Value).

%% As much of a term as a line can hold.
term_text(Term) -> io_lib:format("~0tp", [Term], [{chars_limit, 4000}]).

cancelled(timeout) -> {<<"failed">>, <<"it timed out">>, ""};
cancelled({timeout, #{stacktrace := Stack}}) -> {<<"failed">>, <<"it timed out">>, eunit_lib:format_stacktrace(Stack)};
cancelled({startup, Reason}) -> {<<"error">>, format("could not start its process: ~tp", [Reason]), ""};
cancelled({exit, Reason}) -> {<<"error">>, format("unexpected termination of its process: ~tp", [Reason]), ""};
cancelled({abort, Reason}) ->
    {<<"error">>, abort_headline(Reason), eunit_lib:format_error(Reason)};
cancelled(Other) -> {<<"error">>, format("~tp", [Other]), ""}.

abort_headline({generator_failed, {_, Exception}}) -> abort_headline({generator_failed, Exception});
abort_headline({What, {Class, _, Stack} = Exception}) when is_atom(Class), is_list(Stack) ->
    [atom_to_list(What), ": ", headline(Exception)];
abort_headline(Reason) -> format("~tp", [Reason]).
