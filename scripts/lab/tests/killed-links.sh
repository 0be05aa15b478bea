# kill -9 of every process between a run and its tests, two in each run: a file that is lost three times is given up.
# shellcheck shell=bash

prepare_faults
sessions() { events "$EVENTS" "len([event for event in of('host_connected') if event['host'] == '$1'])"; }
at_work_again() { happened "any(event['at'] > on('$1', 'host_connected')[-1]['at'] for event in on('$1', 'attempt_started'))"; }

# killed NAME HOST VERB: the host's session is lost, and made anew.
killed() {
  local name=$1 host=$2 verb=$3 before start
  before=$(sessions "$host")
  ok "$name: it is killed" "$verb" "$host"; start=$(date +%s.%N)
  ok "  $host comes back" within 30 happened "len(on('$host', 'host_connected')) > $before"
  note "after $(seconds_between "$start" "$(date +%s.%N)") s"
  ok "  and runs files" within 30 at_work_again "$host"
}

start() { start_run 3; ok "all hosts are at work" within 30 all_at_work; }

start
killed 'session of a resident agent' h1 kill_session
killed 'session of a private agent' h3 kill_session
ends_as_undisturbed

start
killed 'sshd of a resident session' h1 kill_sshd
killed 'sshd of a private agent' h3 kill_sshd
ends_as_undisturbed

start
killed 'guardian of a private agent' h3 kill_agent
killed 'resident agent' h2 kill_agent
ends_as_undisturbed

start
killed 'ssh master' h2 kill_master
ends_as_undisturbed

start_run 2
ok "all hosts are at work" within 30 all_at_work
ok "a worker: it is killed" kill_worker h1
ok "  the run ends" within 60 no kill -0 "$RUN"
ok "  its file passed elsewhere, which is said" happened \
  "sorted(event['verdict'] for event in of('file_verdict')) == ['failed', 'flaky'] + 34 * ['passed']"
nothing_left
