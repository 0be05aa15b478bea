# Watches over the virtual machine of Erlang or Elixir that runs a worker program: when it dies, says so for it, and in
# which test. Started as
#
#   sh -c "THIS TEXT" sh elixir OPTION... /PATH/exunit_worker.exs ARGUMENT...
#
# How it works. The virtual machine talks to the agent itself, over the descriptor in DISTRIBUTEST_FD (see
# proto/worker.md). In the directory DISTRIBUTEST_SCRATCH, made beside the worker program and gone when the virtual machine
# has ended, it keeps a file `notes`. While a test file runs that is: a line `running`; a line that says where in it, fit
# to stand in a JSON string; for each test that runs, its `test` message up to the text of its message, which is its last
# value; a line `end`. Otherwise its first line is another one.

agent=$DISTRIBUTEST_FD
told_to_end=no

# Each line of it is a single message of a stream socket, written as a whole or not at all. Not at all: the virtual
# machine has left the socket non-blocking, and full.
say() {
  attempts=0
  until printf '%s\n' "$1" 2>/dev/null 1>&"$agent"; do
    attempts=$((attempts + 1))
    [ "$attempts" -lt 200 ] || exit 1
    sleep 0.05
  done
}

# An orderly end takes the virtual machine a second, which is all that the agent waits for both of them. Applications have
# been stopped by half of it.
end_machine() {
  told_to_end=yes
  [ -n "${machine:-}" ] || exit 1
  kill -TERM "$machine" 2>/dev/null
  { sleep 0.5; kill -KILL "$machine" 2>/dev/null; } &
}

how_it_ended() {
  if [ "$status" -gt 128 ]; then echo "died of signal $((status - 128)) (SIG$(kill -l "$status"))"
  else echo "left with exit status $status"; fi
}

# Reports what the notes, on its standard input, say of the tests that ran.
report_tests() {
  say ''
  while read -r test && [ "$test" != end ]; do say "$test$description\"}"; done
}

report_end() {
  read -r first && [ "$first" = running ] && read -r where || return 0
  if [ "$told_to_end" = yes ]; then
    description="the process running this file was told to end $where"
    report_tests
  else
    description="the process running this file $(how_it_ended) $where"
    report_tests
    say "{\"type\":\"finished\",\"outcome\":\"crashed\",\"details\":\"\",\"message\":\"$description\"}"
  fi
}

if ! command -v "$1" >/dev/null; then
  hint='install it where the tests run, or let node_setup append PATH=… to $DISTRIBUTEST_ENV'
  say "{\"type\":\"unable\",\"message\":\"there is no program \`$1\` in PATH\",\"hint\":\"$hint\"}"
  exit 0
fi

for program; do case $program in */*_worker.*) break ;; esac; done
scratch=$(mktemp -d "${program%/*}/scratch-XXXXXXXXXX") || exit 1
: >"$scratch/notes"
exec 9<"$scratch/notes"
trap end_machine TERM

DISTRIBUTEST_SCRATCH=$scratch "$@" </dev/null 9<&- &
machine=$!
# A signal that is trapped ends a `wait`, too.
while wait "$machine" 2>/dev/null; status=$?; [ "$status" -gt 128 ] && kill -0 "$machine" 2>/dev/null; do :; done

rm -rf "$scratch"
report_end <&9
[ "$told_to_end" = no ] || exit 1
exit "$status"
