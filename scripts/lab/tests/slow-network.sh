# 2 Mbit/s, 200 ms there and back, 5 % loss each way: it works.
# shellcheck shell=bash

prepare_faults
for host in h1 h3; do lab rate $host 2mbit; lab delay $host 100; lab loss $host 5; done
start_run 1; start=$(date +%s.%N)
ok "h1 and h3 are at work over a slow network" within 90 happened "on('h1', 'attempt_started') and on('h3', 'attempt_started')"
note "after $(seconds_between "$start" "$(date +%s.%N)") s"
ends_as_undisturbed
summary='of("run_finished")[0]'
note "$(events "$EVENTS" "${summary}['wall_seconds'], 's; files:', [host['files'] for host in ${summary}['hosts']]")"
ok "  no file was executed twice" no grep -Ev '^ +1 ' <(executions)
for host in h1 h3; do lab loss $host off; lab delay $host off; lab rate $host off; done
