# Hosts that can't be used: each is named with the reason and what to do, and the run goes on without it.
# shellcheck shell=bash

project=$LAB_LAPTOP/dev/steady
mkdir -p "$project/tests"
for ((number = 0; number < 4; number++)); do echo 'def test_it(): pass' >"$project/tests/test_$number.py"; done
ssh-keygen -q -t ed25519 -N '' -f "$LAB_LAPTOP/dev/stranger"
: >"$LAB_LAPTOP/dev/nobody-known"
own dev "$project" "$LAB_LAPTOP"/dev/{stranger,nobody-known}
config=$LAB_LAPTOP/dev/.config/distributest/config.toml

# expect NAME HOST REASON [LINE]: alone, HOST (with LINE in its entry) gives exit status 3 and REASON; beside h2, which
# does all the work, 0, or 3 where `require_hosts` is set.
expect() {
  local name=$1 host=$2 reason=$3 line=${4:-} bad start
  bad=$(host_entry "$host"; echo "$line")
  start=$(date +%s.%N)
  ok "$name: exit status 3" status_is 3 "$bad"
  ok "  it says why" grep -Eq "host $host: .*($reason)" "$SCRATCH/run"
  note "after $(seconds_between "$start" "$(date +%s.%N)") s: $(sed -n '/^warning: /,/^$/s/^ *//p' "$SCRATCH/run" | tr '\n' ' ')"
  ok "  beside another host: exit status 0" status_is 0 "$bad
$(host_entry h2)"
  ok "  with require_hosts: exit status 3" status_is 3 "require_hosts = true
$bad
$(host_entry h2)"
}
status_is() {
  local status=0
  printf 'runners = 0\nkeep_warm = "0"\n%s\n' "$2" >"$config"
  laptop dev distributest --project steady >"$SCRATCH/run" 2>&1 || status=$?
  cat "$SCRATCH/run"
  [ "$status" = "$1" ] || { echo "exit status $status instead of $1"; false; }
}

# A host that has a copy of the project needs no rsync to see that it is the same.
lab as h1 dev rm -rf .cache/distributest/workspaces
lab exec h1 mv /usr/bin/rsync /usr/bin/rsync.away
expect 'rsync is missing' h1 'rsync'
lab exec h1 mv /usr/bin/rsync.away /usr/bin/rsync

expect 'unknown host key' h1 'Host key verification failed' 'ssh_options = ["UserKnownHostsFile=/mnt/dev/nobody-known"]'
expect 'wrong ssh key' h1 'Permission denied' 'identity = "/mnt/dev/stranger"'
expect 'no such host' h9 'resolve'

# Root owns the home, so nothing can be created in it; h1 has a resident agent, h3 has none.
for host in h1 h3; do
  lab as $host dev mkdir -p .cache
  lab exec $host sh -c 'mv /home/dev/.cache /root/cache-away; chown root /home/dev'
  expect "unwritable home, $host" $host 'Permission denied|permission denied'
  lab exec $host sh -c 'chown dev /home/dev; mv /root/cache-away /home/dev/.cache'
done

# A cache of one megabyte: not even the agent fits.
lab exec h3 sh -c 'mount -t tmpfs -o size=1M,uid=1000,mode=700 tmpfs /home/dev/.cache'
expect 'full disk' h3 '[Nn]o space left'
lab exec h3 umount /home/dev/.cache

# Over a connection of its own, which knows of this.
lab exec h1 sh -c 'echo AllowStreamLocalForwarding no >/etc/ssh/sshd_config.d/forwards-nothing.conf; systemctl restart ssh'
ok "where sshd forwards nothing, the host takes part all the same" \
  status_is 0 "$(host_entry h1; echo 'ssh_options = ["Compression=no"]')"
ok "  with its resident agent" grep -q 'resident agent' "$LAB_LAPTOP/dev/.local/state/distributest/logs/latest.log"
ok "  although sshd has refused to connect to it" \
  lab exec h1 sh -c 'journalctl | grep -q "refused streamlocal port forward"'
lab exec h1 sh -c 'rm /etc/ssh/sshd_config.d/forwards-nothing.conf; systemctl restart ssh'

# Without the program that would carry what is said.
by_ssh_itself() { status_is 0 "$(host_entry h1)" && grep 'host h1: resident agent' "$LAB_LAPTOP/dev/.local/state/distributest/logs/latest.log"; }
lab exec h1 mv /usr/local/bin/runner-agent /root/
ok "otherwise ssh itself reaches the resident agent" by_ssh_itself
laptop dev sh -c 'for control in .cache/distributest/ssh/????????????????; do ssh -S "$control" -O exit h1; done' >/dev/null 2>&1
ok "  again when its connection has ended" by_ssh_itself
lab exec h1 mv /root/runner-agent /usr/local/bin/

lab kill h3
expect 'power cut' h3 'timed out|No route to host|lost|no answer'
lab boot h3
write_config dev h1 h2 h3
ok "afterwards h3 does all the work" laptop dev distributest --project steady --hosts h3
