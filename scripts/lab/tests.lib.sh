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
  local user; for user in dev kim; do write_config "$user" h1 h2 h3; done
}

# write_config USER HOST...: two runners on each, none on the laptop.
write_config() {
  local user=$1 host; shift
  mkdir -p "$LAB_LAPTOP/$user/.config/distributest"
  { echo 'runners = 0'; for host; do host_entry "$host"; done; } >"$LAB_LAPTOP/$user/.config/distributest/config.toml"
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
