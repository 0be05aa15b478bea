# The disk of a host is full, where its agent writes or where the project goes: it is said, and the run goes on elsewhere.
# shellcheck shell=bash

prepare_faults
workspaces=/home/dev/.cache/distributest/workspaces

# full NAME HOST DIRECTORY SIZE
full() {
  local name=$1 host=$2 directory=$3 size=$4
  lab exec "$host" mount -t tmpfs -o "size=$size,uid=1000,mode=1777" tmpfs "$directory"
  lab exec "$host" dd if=/dev/zero "of=$directory/filler" status=none 2>/dev/null || :
  start_run 0.3
  ok "$name: the run ends" within 60 no kill -0 "$RUN"
  ok "  it says so, with the host's name" grep -Eq "$host.*([Nn]o space left)" "$SCRATCH/run"
  lab exec "$host" umount "$directory"
  ends_as_undisturbed
}
full 'no room for the project' h1 $workspaces 64k
full 'no room for the agent' h2 /tmp 4k
full 'no room for the project, private agent' h3 $workspaces 64k

# In the midst of a run.
lab exec h1 mount -t tmpfs -o size=1M,mode=1777 tmpfs /tmp
start_run 1
ok "all hosts are at work" within 30 all_at_work
lab exec h1 dd if=/dev/zero of=/tmp/filler status=none 2>/dev/null || :
ok "the disk of h1 is full: the run goes on" within 60 no kill -0 "$RUN"
lab exec h1 umount /tmp
ends_as_undisturbed
