"""EUnit: what `eunit:test/2` tells a listener, which is how its own reporters learn of tests.

A project with a rebar.config is compiled by rebar3, another one here. The function is all that EUnit knows of a test made
by a generator, besides numbers.
"""

import glob

from frameworks import Test

WORDS = {}

LISTENER = """
-mode(compile).
-export([main/1, start/1, init/1, handle_begin/3, handle_end/3, handle_cancel/3, terminate/2]).

main([Results, "compile" | Sources]) ->
    Options = [debug_info, binary, {d, 'TEST'}, {i, "include"}, {i, "src"}, {parse_transform, eunit_autoexport}],
    run(Results, [load(compile:file(Source, Options)) || Source <- Sources]);
main([Results, "load" | Beams]) ->
    code:add_pathsa(lists:usort([filename:dirname(Beam) || Beam <- Beams])),
    run(Results, [list_to_atom(filename:basename(Beam, ".beam")) || Beam <- Beams]).

load({ok, Module, Binary}) -> {module, Module} = code:load_binary(Module, "", Binary), Module.

run(Results, Modules) ->
    {ok, File} = file:open(Results, [write, {encoding, utf8}]),
    [run(File, Module, Name) || Module <- Modules, {Name, 0} <- Module:module_info(exports)].

run(File, Module, Name) ->
    Text = atom_to_list(Name),
    case {lists:suffix("_test", Text), lists:suffix("_test_", Text)} of
        {true, _} -> listen(File, Module, Name, {test, Module, Name});
        {_, true} -> listen(File, Module, Name, {generator, Module, Name});
        _ -> none
    end.

listen(File, Module, Name, Tests) ->
    eunit:test(Tests, [no_tty, {report, {?MODULE, [{to, {self(), File, Module, Name}}]}}]),
    receive told -> ok end.

start(Options) -> eunit_listener:start(?MODULE, Options).
init([{to, To}]) -> receive {start, _} -> To end.
handle_begin(_, _, To) -> To.
handle_end(group, _, To) -> To;
handle_end(test, Data, To) ->
    tell(case proplists:get_value(status, Data) of ok -> passed; {error, _} -> failed; {skipped, _} -> error end, To).
handle_cancel(test, _, To) -> tell(failed, To);
handle_cancel(group, Data, To) ->
    case proplists:get_value(reason, Data) of undefined -> To; {blame, _} -> To; _ -> tell(error, To) end.
tell(Status, {_, File, Module, Name} = To) -> io:format(File, "~ts:~ts/0 ~ts~n", [Module, Name, Status]), To.
terminate(_, {Worker, _, _, _}) -> Worker ! told.
"""


def known_id(identifier):
    return identifier.split("[")[0]


def run(project):
    results = project.scratch / "results"
    listener = project.scratch / "listener.erl"
    listener.write_text("#!/usr/bin/env escript\n" + LISTENER)
    if in_project(project, "rebar.config"):
        project.run(["rebar3", "as", "test", "compile"])
        files = ["load", *in_project(project, "_build/test/lib/*/ebin/*.beam", "_build/test/lib/*/test/*.beam")]
    else:
        files = ["compile", *in_project(project, "src/*.erl", "test/*.erl")]
    project.run(["escript", str(listener), str(results), *files])
    tests = {}
    for line in results.read_text().splitlines():
        identifier, status = line.split()
        tests.setdefault(identifier, []).append(Test(status))
    return tests


def in_project(project, *patterns):
    return [path for pattern in patterns for path in sorted(glob.glob(pattern, root_dir=project.directory))]
