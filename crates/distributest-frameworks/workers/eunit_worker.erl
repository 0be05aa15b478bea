%% -*- erlang -*-
%%! +sbwt none +sbwtdcpu none +sbwtdio none
%% Runs EUnit tests for distributest: the project is compiled and its code is found once, then the tests of module after
%% module run in this same virtual machine.
%%
%% Started as an escript by an agent, which talks to it over the descriptor in DISTRIBUTEST_FD (see proto/worker.md).
%% Needs Erlang/OTP 23 or newer with EUnit, and nothing else. The arguments on the command line are options of
%% `eunit:test/2` as Erlang terms, and `{sys_config,"FILE"}` as rebar3 has it; they are added to `eunit_opts` of
%% `rebar.config`.
%%
%% How it works. With a `rebar.config`, rebar3 compiles the project (`rebar3 as test compile`), once for all workers of a
%% host; without one, `src` and `test` are compiled here, for this worker alone. A test file is an Erlang source file: the
%% tests of its module are run, one test function or generator after the other, each by `eunit:test/2`, with this module
%% as the listener. The tests of a generator are labelled, so that each has an id of its own, can be left out, and is
%% noted when it begins: EUnit tells its listeners of a test while it runs already, which is too late for a test that
%% ends the virtual machine.
%%
%% Rules:
%% - What files share is the virtual machine: applications that were started, named processes, tables.
%% - What tests print is captured by EUnit, and printed when the test has ended.
%% - A group that EUnit cancels (its set-up failed, it timed out) is reported as a test with the group's place as its id.

-module(distributest_eunit).
-mode(compile).
-behaviour(eunit_listener).
-export([main/1, start/1, init/1, handle_begin/3, handle_end/3, handle_cancel/3, terminate/2]).

-define(LABELS, distributest_labels).
-define(INSTALL_HINT, <<"install it where the tests run, in node_setup: apt-get install erlang-eunit rebar3">>).
-define(COMPILE_HINT, <<"plain `rebar3 eunit` fails too; node_setup can fetch dependencies: rebar3 get-deps">>).

main(Arguments) ->
    Scratch = start_agent(),
    [io:setopts(Device, [{encoding, unicode}]) || Device <- [standard_io, standard_error]],
    try
        Given = [given_option(Argument) || Argument <- Arguments],
        code:ensure_loaded(eunit) =/= {module, eunit} andalso
            throw({unable, <<"EUnit is not installed for this Erlang">>, ?INSTALL_HINT}),
        Failed = make_ready(Scratch),
        Options = configure(rebar_options() ++ Given),
        ets:new(?LABELS, [named_table, public]),
        flush_output(),
        send_message(#{type => <<"ready">>, protocol => 1, framework => <<"eunit">>, version => version(),
                       runtime => runtime()}),
        serve(#{options => Options, failed => Failed})
    catch
        throw:{unable, Message, Hint} ->
            send_message(#{type => <<"unable">>, message => text_line(Message), hint => Hint})
    end.

version() ->
    application:load(eunit),
    {ok, Version} = application:get_key(eunit, vsn),
    Version.

%% What runs the tests, and on what kind of machine.
runtime() ->
    [Release, Version, Machine] =
        [erlang:system_info(Item) || Item <- [otp_release, version, system_architecture]],
    unicode:characters_to_binary(["Erlang/OTP ", Release, " erts ", Version, " ", Machine]).

given_option(Argument) ->
    try
        {ok, Tokens, _} = erl_scan:string(Argument ++ "."),
        {ok, Option} = erl_parse:parse_term(Tokens),
        Option
    catch
        error:_ ->
            Message = format("~ts is no option of eunit:test/2, which are Erlang terms", [Argument]),
            throw({unable, Message, <<"for example: distributest -- '{sys_config,\"test.config\"}'">>})
    end.

%% Options of the project's that are not about reports.
rebar_options() ->
    case file:consult("rebar.config") of
        {ok, Terms} -> [Option || Option <- proplists:get_value(eunit_opts, Terms, []), not is_report(Option)];
        {error, _} -> []
    end.

is_report({report, _}) -> true;
is_report(Option) -> Option =:= verbose orelse Option =:= no_tty.

configure(Options) ->
    [set_environments(File) || {sys_config, File} <- Options],
    [Option || Option <- Options, not is_tuple(Option) orelse element(1, Option) =/= sys_config].

set_environments(File) ->
    case file:consult(File) of
        {ok, [Applications | _]} ->
            [application:set_env(Application, Key, Value, [{persistent, true}])
             || {Application, Environment} <- Applications, {Key, Value} <- Environment];
        {error, Reason} ->
            Message = format("the file ~ts of sys_config can't be read: ~ts", [File, file:format_error(Reason)]),
            throw({unable, Message, <<>>})
    end.

%% ---------------------------------------------------------------------------------------------------------------------
%% Compiling the project, and finding its code

%% Returns a map from files that can't be compiled to the compiler's messages.
make_ready(Scratch) ->
    case filelib:is_regular("rebar.config") of
        true -> compile_with_rebar(), #{};
        false -> compile_here(Scratch)
    end.

compile_with_rebar() ->
    Rebar = find_rebar(),
    Base = os:getenv("REBAR_BASE_DIR", "_build"),
    filelib:ensure_dir(filename:join(Base, "distributest.lock")),
    Compile = ["as", "test", "compile"],
    {Program, Command} = case os:find_executable("flock") of
        false -> {Rebar, Compile};
        % Workers of other runners may start in the same directory at the same time.
        Flock -> {Flock, [filename:join(Base, "distributest.lock"), Rebar | Compile]}
    end,
    Environment = [{"REBAR_OFFLINE", "1"}, {"REBAR_COLOR", "none"}],
    Streams = [exit_status, stderr_to_stdout, binary, {line, 4096}],
    Port = open_port({spawn_executable, Program}, [{args, Command}, {env, Environment} | Streams]),
    case show_lines(Port, []) of
        {0, _} -> ok;
        {_, Lines} ->
            LastLines = lists:nthtail(max(0, length(Lines) - 3), Lines),
            Message = [<<"rebar3 can't compile this project: ">>, lists:join(" ", LastLines)],
            throw({unable, Message, ?COMPILE_HINT})
    end,
    Directories = [filename:join([Base, "test", Pattern]) || Pattern <- ["{lib,checkouts}/*/{ebin,test}", "extras/*"]],
    code:add_pathsa([filename:absname(Directory) || Pattern <- Directories, Directory <- filelib:wildcard(Pattern)]),
    Applications = filelib:wildcard(filename:join([Base, "test", "lib", "*", "ebin", "*.app"])),
    [application:load(list_to_atom(filename:basename(File, ".app"))) || File <- Applications].

find_rebar() ->
    case {filelib:is_regular("rebar3"), os:find_executable("rebar3")} of
        {true, _} -> filename:absname("rebar3");
        {false, false} ->
            Message = <<"there is a rebar.config, and no `rebar3`, neither in the project nor in PATH">>,
            throw({unable, Message, ?INSTALL_HINT});
        {false, Found} -> Found
    end.

show_lines(Port, Lines) ->
    receive
        {Port, {data, {_, Line}}} ->
            Clean = clean(Line),
            io:put_chars([Clean, $\n]),
            show_lines(Port, Lines ++ [string:trim(string:trim(Clean), leading, "=> ")]);
        {Port, {exit_status, Status}} -> {Status, [Line || Line <- Lines, Line =/= <<>>]}
    end.

%% An application's directory is made in the scratch directory: compiled code, and links to what else it consists of.
compile_here(Scratch) ->
    Name = case filelib:wildcard("src/*.app.src") of
        [File | _] -> filename:basename(File, ".app.src");
        [] -> "project"
    end,
    Directory = filename:join(Scratch, Name),
    Ebin = filename:join(Directory, "ebin"),
    ok = filelib:ensure_dir(filename:join(Ebin, "x")),
    Parts = ["include", "priv", "src", "test"],
    [file:make_symlink(filename:absname(Part), filename:join(Directory, Part)) || Part <- Parts],
    file:copy("src/" ++ Name ++ ".app.src", filename:join(Ebin, Name ++ ".app")),
    code:add_pathsa([filename:absname(Path) || Path <- filelib:wildcard("{deps,lib}/*/ebin")]),
    code:add_patha(Ebin),
    Sources = [File || Pattern <- ["*.erl", "src/**/*.erl", "test/**/*.erl"], File <- filelib:wildcard(Pattern)],
    Failed = compile_all(Sources, Ebin),
    application:load(list_to_atom(Name)),
    Failed.

%% What needs a parse transform that is not compiled yet fails at first.
compile_all(Sources, Ebin) ->
    Results = [{Source, compile_file(Source, Ebin)} || Source <- Sources],
    Failed = [{Source, Errors} || {Source, {failed, Errors}} <- Results],
    case length(Failed) of
        Number when Number =:= 0; Number =:= length(Sources) -> maps:from_list(Failed);
        _ -> compile_all([Source || {Source, _} <- Failed], Ebin)
    end.

compile_file(Source, Ebin) ->
    Includes = [{i, Directory} || Directory <- ["include", "src", "test", filename:dirname(Source)]],
    Options = [debug_info, {d, 'TEST'}, {d, 'EUNIT'}, {outdir, Ebin}, return_errors],
    case compile:file(Source, Options ++ Includes ++ exporting(Source)) of
        {ok, _} -> compiled;
        {error, Errors, _} -> {failed, format_errors(Errors)}
    end.

%% Inline tests of projects built with erlang.mk include no header of EUnit's, which would export them.
exporting(Source) ->
    {ok, Text} = file:read_file(Source),
    case binary:match(Text, [<<"eunit.hrl">>]) of
        nomatch -> [{parse_transform, eunit_autoexport}];
        _ -> []
    end.

format_errors(Errors) ->
    [format("~ts:~ts ~ts\n", [File, line_and_column(Where), Module:format_error(Reason)])
     || {File, InFile} <- Errors, {Where, Module, Reason} <- InFile].

line_and_column(none) -> "";
line_and_column({Line, Column}) -> io_lib:format("~b:~b:", [Line, Column]);
line_and_column(Line) -> io_lib:format("~b:", [Line]).
