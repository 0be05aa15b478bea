# A host that fails what others pass is fenced, and its failures don't count; repaired, it takes part again.
# shellcheck shell=bash

prepare_faults
files_started() { events "$EVENTS" "len([event for event in of('attempt_started') if event['host'] == 'h2'])"; }

lab as h2 dev touch broken
start_run 0.5
ends_as_undisturbed
ok "h2 was broken: it was fenced" changed h2 fenced
# The chance tells when the others have passed some, too; then come those on their way and the probes.
ok "  after a few files" at_most "$(files_started)" 15
note "files it was given: $(files_started)"
ok "  it is said" grep -q 'h2.*fail' "$SCRATCH/run"

start_run 4
ok "h2 is broken in the next run: it is fenced" within 30 changed h2 fenced
lab as h2 dev rm broken; repaired=$(date +%s.%N)
ok "  repaired, it is readmitted" within 45 changed h2 readmitted
note "after $(seconds_between "$repaired" "$(date +%s.%N)") s"
ends_as_undisturbed
