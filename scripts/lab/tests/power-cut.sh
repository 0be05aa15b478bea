# A host loses its power: noticed in time, its files run elsewhere; started again, it comes back into the run.
# shellcheck shell=bash

prepare_faults
start_run 2
ok "all hosts are at work" within 30 all_at_work
lab kill h1; cut=$(date +%s.%N)
ok "h1 loses its power: it is noticed" within 11 changed h1 silent
note "after $(seconds_between "$cut" "$(date +%s.%N)") s (host_timeout 10 s)"
ok "  the run ends" within 60 no kill -0 "$RUN"
lab boot h1
ends_as_undisturbed

# Impatient, for a lease of 12 s.
start_run 5 2
ok "all hosts are at work" within 30 all_at_work
lab kill h1
ok "h1 loses its power: it is noticed" within 3 changed h1 silent
lab boot h1
ok "  started again, it comes back" within 30 happened "len(on('h1', 'host_connected')) == 2"
came_back='on("h1", "host_connected")[-1]["at"]'
ok "  and runs files" within 30 happened "any(event['at'] > $came_back for event in on('h1', 'attempt_started'))"
ends_as_undisturbed
