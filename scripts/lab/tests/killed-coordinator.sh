# kill -9 of the coordinator: within 2 s nothing of its run is left on any host, and the agents have not noticed.
# shellcheck shell=bash

project=$LAB_LAPTOP/dev/endless
mkdir -p "$project/tests"
for ((number = 0; number < 6; number++)); do
  cat >"$project/tests/test_$number.py" <<'PYTHON'
import os, subprocess, time

def daemonise(command, **options):
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            subprocess.Popen(command, start_new_session=True, **options)
        os._exit(0)
    os.wait()

def test_that_leaves_daemons_behind():
    daemonise(["sleep", "31415"])
    daemonise(["sh", "-c", "trap '' TERM HUP; while :; do sleep 31415; done"], env={"PATH": os.environ["PATH"]})
    time.sleep(31415)
PYTHON
done
mkdir -p "$LAB_LAPTOP/dev/brief/tests"
for ((number = 0; number < 6; number++)); do echo 'def test_it(): pass' >"$LAB_LAPTOP/dev/brief/tests/test_$number.py"; done
own dev "$project" "$LAB_LAPTOP/dev/brief"

# What is left of a run on a host: whatever bears its mark, and the daemons, which have taken theirs off.
left_on() {
  lab exec "$1" sh -c '
    for process in /proc/[0-9]*; do
      if grep -qsz "^DISTRIBUTEST_RUN=" "$process/environ" || grep -qs "3141[5]" "$process/cmdline"; then
        tr "\0" " " <"$process/cmdline"; echo
      fi
    done
    true'
}
# Two tests on each host, each with one daemon and another that has a child.
busy() { [ "$(left_on "$1" | grep -c 'sleep 31415')" -ge 6 ]; }
clean() { [ -z "$(left_on "$1")" ]; }
hosts=(h1 h2 h3)

h1_agent=$(agent_pid h1) h2_agent=$(agent_pid h2)
# shellcheck disable=SC2016 # for the laptop's shell
laptop dev sh -c 'echo $$ >coordinator.pid; exec distributest --project endless' >"$SCRATCH/killed.said" 2>&1 &
for host in "${hosts[@]}"; do ok "the run is at work on $host" within 30 busy "$host"; done
killed=$(date +%s.%N)
kill -9 "$(cat "$LAB_LAPTOP/dev/coordinator.pid")"
for host in "${hosts[@]}"; do ok "nothing of it is left on $host" within 2 clean "$host"; done
took=$(seconds_between "$killed" "$(date +%s.%N)")
ok "  and that within 2 s ($took s)" at_most "$took" 2
ok "the private agent on h3 has gone" within 1 no lab exec h3 pgrep -u dev -f distributest
ok "the resident agents are those of before" \
  [ "$(agent_pid h1) $(agent_pid h2) $(lab exec h1 systemctl is-active runner-agent)" = "$h1_agent $h2_agent active" ]
ok "the next run works, on all hosts" laptop dev distributest --project brief --json /mnt/dev/brief.jsonl
ok "  with no host missing" [ "$(events "$LAB_LAPTOP/dev/brief.jsonl" 'len(of("host_connected"))')" = 3 ]
