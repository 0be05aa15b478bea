# What the lab's tests have in common; sourced by lab-tests.
# shellcheck shell=bash

lab() { "$ROOT/scripts/lab/lab" "$@"; }
laptop() { lab laptop "$@"; }           # laptop USER COMMAND...

# ok NAME COMMAND...: the command must succeed; what it wrote is shown where it does not.
ok() {
  local name=$1; shift
  if "$@" >"$SCRATCH/said" 2>&1; then echo "ok - $name" | tee -a "$SCRATCH/results"
  else not_ok "$name"; tail -40 "$SCRATCH/said" | sed 's/^/#   /'; fi
}
not_ok() { echo "not ok - $1" | tee -a "$SCRATCH/results"; }
note() { echo "#   $*"; }
no() { ! "$@"; }
at_most() { awk -v value="$1" -v limit="$2" 'BEGIN { exit !(value <= limit) }' || { echo "$1 is more than $2"; false; }; }

# The command waits at most SECONDS for another to succeed.
within() {
  local end; end=$(awk -v now="$(date +%s.%N)" -v limit="$1" 'BEGIN { printf "%.3f", now + limit }'); shift
  until "$@"; do
    at_most "$(date +%s.%N)" "$end" >/dev/null || { echo "still not so: $*"; return 1; }
    sleep 0.05
  done
}

# The laptop's disk: /mnt there, LAB_LAPTOP here.
prepare_laptop() {
  eval "$(lab env)"
  install -d "$LAB_LAPTOP/bin"
  install "$PROGRAM" "$LAB_LAPTOP/bin/distributest"
  cp -r "$ROOT/scripts/conformance/"{compare,frameworks} "$LAB_LAPTOP/bin/"
  local user
  # shellcheck disable=SC2086 # one word for each host
  for user in dev kim; do write_config "$user" $LAB_HOSTS; done
}

# write_config USER HOST...: two runners on each, none on the laptop.
write_config() {
  local user=$1 host; shift
  mkdir -p "$LAB_LAPTOP/$user/.config/distributest"
  # Most tests look at what a run leaves behind: nothing. `warm` has what may stay.
  { printf 'runners = 0\nkeep_warm = "0"\n'; for host; do host_entry "$host"; done; } >"$LAB_LAPTOP/$user/.config/distributest/config.toml"
  own "$user" "$LAB_LAPTOP/$user/.config"
}
host_entry() { printf '[[host]]\nname = "%s"\nrunners = 2\n' "$1"; }
own() { local user=$1; shift; chown -R --reference="$LAB_LAPTOP/$user" "$@"; }

# copy_project USER DIRECTORY: below the user's home on the laptop, under the directory's own name.
copy_project() { cp -a "$2" "$LAB_LAPTOP/$1/"; own "$1" "$LAB_LAPTOP/$1/${2##*/}"; }

install_agent() {
  local host=$1
  lab ssh "$host" 'cat >/usr/local/bin/runner-agent && chmod 755 /usr/local/bin/runner-agent' <"${PROGRAM%/*}/runner-agent"
  lab ssh "$host" 'cat >/etc/systemd/system/runner-agent.service' <"$ROOT/systemd/runner-agent.service"
  lab ssh "$host" 'systemctl enable --quiet --now runner-agent'
}
agent_pid() { lab exec "$1" systemctl show -P MainPID runner-agent; }

# events FILE EXPRESSION: a Python expression over the list of a run's events.
events() {
  python3 -c 'import json, sys
events = [json.loads(line) for line in open(sys.argv[1])]
of = lambda kind: [event for event in events if event["event"] == kind]
print(eval(sys.argv[2]))' "$@"
}

# --- Runs that a fault befalls, compared with the same run undisturbed ---

# The project `faults`: 36 files, one with a test that fails everywhere; all tests fail on a host with a file ~/broken.
# A file takes as many seconds as the file `pace` says, and when it ends its name is added to ~/executed on its host.
prepare_faults() {
  local project=$LAB_LAPTOP/dev/faults number host
  [ ! -e "$SCRATCH/undisturbed" ] || return 0
  mkdir -p "$project/tests"
  for ((number = 0; number < 36; number++)); do
    cat >"$project/tests/test_$number.py" <<'PYTHON'
import os, time

def test_takes_its_time():
    assert not os.path.exists(os.path.expanduser("~/broken"))
    time.sleep(float(open("pace").read()))

def test_is_counted():
    assert not os.path.exists(os.path.expanduser("~/broken"))
    with open(os.path.expanduser("~/executed"), "a") as executed:
        print(os.path.basename(__file__), file=executed)
PYTHON
  done
  echo 'def test_fails(): assert False' >>"$project/tests/test_20.py"
  own dev "$project"
  for host in $LAB_HOSTS; do remains "$host" >"$SCRATCH/remains.$host"; done
  start_run 0.1
  wait "$RUN" || :
  ledger >"$SCRATCH/undisturbed"
}

# start_run PACE [HOST_TIMEOUT]: a run of that project in the background.
start_run() {
  echo "$1" >"$LAB_LAPTOP/dev/faults/pace"
  EVENTS=$LAB_LAPTOP/dev/faults.jsonl
  rm -f "$EVENTS"
  local host; for host in $LAB_HOSTS; do lab exec "$host" rm -f /home/dev/executed; done
  # shellcheck disable=SC2016 # for the laptop's shell
  laptop dev env DISTRIBUTEST_HOST_TIMEOUT="${2:-10}" \
    sh -c 'echo $$ >run.pid; exec distributest --project faults --json faults.jsonl' >"$SCRATCH/run" 2>&1 &
  RUN=$!
}

# What the run said so far: whether a Python expression over its events is true; `on(HOST, KIND)` are those of a host.
happened() {
  local on="lambda host, kind: [event for event in of(kind) if event['host'] == host]"
  [ "$(events "$EVENTS" "(lambda on: bool($1))($on)" 2>&1)" = True ]
}
# Runners of the host are at work, and some have finished a file.
at_work() { happened "0 < len(on('$1', 'attempt_finished')) < len(on('$1', 'attempt_started'))"; }
changed() { happened "any(event['change'] == '$2' for event in on('$1', 'host_changed'))"; }
all_at_work() { at_work h1 && at_work h2 && at_work h3; }

# Every file's verdict and test results, and the exit status.
ledger() {
  events "$EVENTS" '"\n".join(sorted("{file} {verdict} {reason}".format(**verdict) + str(sorted(
    (test["id"], test["status"]) for test in of("test_finished") if test["attempt"] == verdict["attempt"]))
    for verdict in of("file_verdict"))) + "\nexit status " + str(of("run_finished")[0]["exit_status"])'
}

# The run ends by itself, with what it says undisturbed, and nothing of it is left anywhere.
ends_as_undisturbed() {
  ok "  the run ends" within 100 no kill -0 "$RUN"
  ! kill -0 "$RUN" 2>/dev/null || kill -9 "$(cat "$LAB_LAPTOP/dev/run.pid")"
  ledger >"$SCRATCH/ledger" 2>&1 || :
  ok "  verdicts, tests and exit status are those of an undisturbed run" diff "$SCRATCH/undisturbed" "$SCRATCH/ledger"
  nothing_left
}
nothing_left() { ok "  nothing is left on any host, nor on the laptop" within 10 all_as_before; }
all_as_before() {
  local host
  for host in $LAB_HOSTS; do diff "$SCRATCH/remains.$host" <(remains "$host") || return; done
  no laptop_has_some
}

# What a run could leave on a host: processes, mounts, sockets, cgroups, an agent that is not up.
remains() {
  # shellcheck disable=SC2016 # for the host's shell
  lab exec "$1" sh -c '
    for process in /proc/[0-9]*; do
      ! grep -qsz "^DISTRIBUTEST_RUN=" "$process/environ" || tr "\0" " " <"$process/cmdline"
    done
    pgrep -u dev -af "runner-agent|distributest"
    awk "!/ .run.user/ { print \$2 }" /proc/mounts | sort
    find /home /tmp /var/tmp /run/runner-agent /sys/fs/cgroup -type s -o -name "run-[0-9]*" 2>/dev/null | sort
    ! test -d /run/runner-agent || systemctl is-active runner-agent'
}
laptop_has_some() {
  local pid
  for pid in $(ip netns pids "$LAB_NAME"); do cat "/proc/$pid/comm" 2>/dev/null; done |
    grep -E 'distributest|rsync|runner-agent'
}

# kill -9 of one process of the chain between the run and its tests on HOST.
kill_session() { lab exec "$1" kill -9 "$(session_pid "$1")"; }
kill_sshd() { lab exec "$1" pkill -9 -o -u dev -f '^sshd: dev'; }
kill_worker() { lab exec "$1" pkill -9 -o -u dev -f '^[^ ]*python3 [^ ]*/distributest-agent-'; }
kill_agent() {   # the resident one, or the private one's guardian
  local pid
  if lab exec "$1" test -d /run/runner-agent; then pid=$(agent_pid "$1")
  else pid=$(lab exec "$1" pgrep -o -u dev -f "$AGENT"); fi
  lab exec "$1" kill -9 "$pid"
}
kill_master() {
  local pid
  for pid in $(ip netns pids "$LAB_NAME"); do
    ! grep -qszx -e '-M' "/proc/$pid/cmdline" || ! grep -qszx -e "$1" "/proc/$pid/cmdline" || kill -9 "$pid"
  done
}
# A session below the resident agent, or a private agent: its guardian, then its session.
AGENT='^[^ ]*/(exe|distributest) agent --(session|banner)'
session_pid() { lab exec "$1" pgrep -n -u dev -f "$AGENT"; }

# How often each file was executed to its end, on all hosts.
executions() {
  local host
  for host in $LAB_HOSTS; do lab exec "$host" sh -c 'cat /home/dev/executed 2>/dev/null || :'; done | sort | uniq -c
}
