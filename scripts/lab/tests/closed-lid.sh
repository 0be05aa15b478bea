# A laptop's lid is closed for less than the lease: its tests go on where they were.
# shellcheck shell=bash

prepare_faults
start_run 2 2
ok "all hosts are at work" within 30 all_at_work
lab suspend h2
ok "the lid of h2 is closed: it is noticed" within 3 changed h2 silent
sleep 3
lab resume h2
ok "  opened again, it is heard" within 10 changed h2 heard
ends_as_undisturbed
ok "  in the same session" happened "len(on('h2', 'host_connected')) == 1"
