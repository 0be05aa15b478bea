# What a run has loaded stays for its user's next run, and goes in time, with the agent, and with a run that is killed.
# shellcheck shell=bash

for user in dev kim; do
  project=$LAB_LAPTOP/$user/warm
  mkdir -p "$project/tests"
  cat >"$project/conftest.py" <<'PYTHON'
import os

with open(os.path.expanduser("~/loaded"), "a") as loaded:
    loaded.write("once more\n")
PYTHON
  # Enough for every host to have a part in it: a worker that is not ready before the end does not stay.
  for ((number = 0; number < 24; number++)); do
    printf 'import time\n\ndef test_it():\n    time.sleep(%s)\n' 0.4 >"$project/tests/test_$number.py"
  done
  own "$user" "$project"
done

# run_for USER KEEP_WARM
run_for() {
  laptop "$1" env DISTRIBUTEST_KEEP_WARM="$2" distributest --project warm --json warm.jsonl >"$SCRATCH/warm.said" 2>&1 ||
    { cat "$SCRATCH/warm.said"; false; }
}
kept() { lab exec "$1" pgrep -f pytest_worker; }
idle() { [ "$(lab exec "$1" journalctl -u runner-agent --no-pager | grep -c 'a session stays')" -gt "${2:-0}" ]; }
stays() { lab exec "$1" journalctl -u runner-agent --no-pager | grep -c 'a session stays' || :; }
# How many workers of a user's last run were not new, on a host.
spared() {
  events "$LAB_LAPTOP/$1/warm.jsonl" "len([event for event in of('worker_prepared') if event['host'] == '$2' and event['saved_seconds']])"
}
loaded() { lab exec "$1" sh -c "wc -l </home/$2/loaded"; }

before=$(stays h1)
ok "a run passes" run_for dev 10m
ok "  and what it has loaded stays on h1" within 10 idle h1 "$before"
ok "  as processes that wait" kept h1
ok "  but nothing on h3, whose agent was private" within 5 no kept h3
loads=$(loaded h1 dev) before=$(stays h1)
ok "the next run passes" run_for dev 10m
ok "  with those workers on h1" [ "$(spared dev h1)" = 2 ]
ok "  which have loaded nothing again" [ "$(loaded h1 dev)" = "$loads" ]
ok "  and new ones on h3" [ "$(spared dev h3)" = 0 ]
ok "  they stay again" within 10 idle h1 "$before"
ok "another user's run passes" run_for kim 0
ok "  with workers of its own" [ "$(spared kim h1)" = 0 ]
echo "# changed" >>"$LAB_LAPTOP/dev/warm/conftest.py"
before=$(stays h1)
ok "a run passes after conftest.py has changed" run_for dev 10m
ok "  with new workers" [ "$(spared dev h1)" = 0 ]
ok "  which stay" within 10 idle h1 "$before"
lab exec h1 systemctl restart runner-agent
ok "they go with the agent" within 5 no kept h1
ok "a run passes that keeps its workers for 2 s" run_for dev 2s
ok "  and they go" within 8 no kept h1

before=$(stays h1)
ok "a run passes" run_for dev 10m
ok "  and its workers stay" within 10 idle h1 "$before"
sed -i 's/sleep(.*)/sleep(1000)/' "$LAB_LAPTOP"/dev/warm/tests/*.py
# shellcheck disable=SC2016 # for the laptop's shell
laptop dev env DISTRIBUTEST_KEEP_WARM=10m sh -c 'echo $$ >warm.pid; exec distributest --project warm --json warm.jsonl' \
  >"$SCRATCH/warm.said" 2>&1 &
export EVENTS=$LAB_LAPTOP/dev/warm.jsonl
ok "a run is at work with them" within 30 happened "len(on('h1', 'attempt_started')) == 2 and any(event['saved_seconds'] for event in on('h1', 'worker_prepared'))"
kill -9 "$(cat "$LAB_LAPTOP/dev/warm.pid")"
ok "nothing of it is left when it is killed" within 2 no kept h1
