# Cut off for longer than the lease: the host ends the run's tests by itself, and comes back in a new session.
# shellcheck shell=bash

prepare_faults
tests_on() { lab exec "$1" sh -c 'cat /proc/[0-9]*/environ 2>/dev/null | grep -zc "^DISTRIBUTEST_RUN=" || :'; }
idle() { [ "$(tests_on "$1")" = 0 ]; }

# befalls NAME HOST FAULT... -- CURE...: with a lease of 12 s.
befalls() {
  local name=$1 host=$2 fault=() start session; shift 2
  while [ "$1" != -- ]; do fault+=("$1"); shift; done; shift
  start_run 6 2
  ok "$name: all hosts are at work" within 30 all_at_work
  session=$(session_pid "$host")
  lab "${fault[@]}"; start=$(date +%s.%N)
  ok "  it is noticed" within 3 changed "$host" silent
  note "after $(seconds_between "$start" "$(date +%s.%N)") s (host_timeout 2 s)"
  if [ "${fault[0]}" = suspend ]; then
    ok "  and given up after the lease" within 15 changed "$host" away
    lab "$@"; start=$(date +%s.%N)
    ok "  when it wakes, its session ends at once" within 2 no lab exec "$host" kill -0 "$session"
  else
    ok "  its tests end with the lease" within 15 idle "$host"
    note "after $(seconds_between "$start" "$(date +%s.%N)") s (lease 12 s)"
    ok "  and it is given up" within 5 changed "$host" away
    lab "$@"
  fi
  ok "  it comes back" within 30 happened "len(on('$host', 'host_connected')) == 2"
  ends_as_undisturbed
}
befalls 'pulled cable' h1 cut h1 -- heal h1
befalls 'silent partition' h3 loss h3 100 -- loss h3 off
befalls 'closed lid' h2 suspend h2 -- resume h2

# After half a minute of silence TCP tries again so seldom that it would stay silent for another.
start_run 9 2
ok "long partition: all hosts are at work" within 30 all_at_work
lab loss h1 100
ok "  h1 is given up after the lease" within 15 changed h1 away
sleep 15
lab loss h1 off; start=$(date +%s.%N)
ok "  it comes back over a connection of its own" within 20 happened "len(on('h1', 'host_connected')) == 2"
note "after $(seconds_between "$start" "$(date +%s.%N)") s"
ends_as_undisturbed
