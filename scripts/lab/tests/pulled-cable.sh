# A cable is out for 20 s: the session goes on where it was, and what is finished is not repeated.
# shellcheck shell=bash

prepare_faults
start_run 5
ok "all hosts are at work" within 30 all_at_work
lab cut h1; cut=$(date +%s.%N)
ok "the cable of h1 is pulled: it is noticed" within 11 changed h1 silent
note "after $(seconds_between "$cut" "$(date +%s.%N)") s (host_timeout 10 s)"
sleep "$(awk -v cut="$cut" -v now="$(date +%s.%N)" 'BEGIN { print cut + 20 - now }')"
lab heal h1; healed=$(date +%s.%N)
ok "  put back after 20 s, h1 is heard again" within 30 changed h1 heard
note "after another $(seconds_between "$healed" "$(date +%s.%N)") s"
ends_as_undisturbed
ok "  in the same session" no changed h1 away
silent="next(event['at'] for event in on('h1', 'host_changed') if event['change'] == 'silent')"
started="[event['file'] for event in of('attempt_started')]"
# Two runners, each with a file at work and one that waits. At the end, idle runners double what others are slow with.
ok "  at most four files, those of h1, were started twice, but for what was doubled" \
  happened "len($started) <= 36 + 4 + len(of('attempt_doubled')) and len(set($started)) == 36"
ok "  none of them was finished before" happened "not (
  {event['file'] for event in of('file_verdict') if event['at'] < $silent} &
  {event['file'] for event in of('attempt_started') if event['at'] > $silent})"
note "executed to the end more than once: $(executions | awk '$1 > 1 { count++ } END { print count + 0 }') files"
