# kill -9 of the coordinator, then --resume: no file runs again but those that were at work.
# shellcheck shell=bash

prepare_faults
start_run 1
ok "all hosts are at work" within 30 all_at_work
ok "  a third of the files is done" within 30 happened "len(of('file_verdict')) >= 12"
kill -9 "$(cat "$LAB_LAPTOP/dev/run.pid")"
wait "$RUN" 2>/dev/null || :
nothing_left
events "$EVENTS" "'\n'.join({event['file'] for event in of('file_verdict')})" | sort >"$SCRATCH/before"
cp "$EVENTS" "$LAB_LAPTOP/dev/faults.killed.jsonl"
status=0
laptop dev distributest --project faults --resume --json faults.jsonl --junit faults.xml >"$SCRATCH/run" 2>&1 || status=$?
ok "resumed, it ends with the status of an undisturbed run" grep -qx "exit status $status" "$SCRATCH/undisturbed"
ledger >"$SCRATCH/ledger"
ok "  and with its verdicts and tests" diff "$SCRATCH/undisturbed" "$SCRATCH/ledger"
ok "  $(wc -l <"$SCRATCH/before") files were finished before: none of them ran again" \
  [ -z "$(events "$EVENTS" "'\n'.join(event['file'] for event in of('attempt_started'))" | sort | comm -12 - "$SCRATCH/before")" ]
# Six runners: what came to its end there was not heard of any more.
ok "  at most the files at work were executed to their end twice" at_most "$(executions | awk '$1 > 1' | wc -l)" 6
ok "  one JUnit file has every test once" python3 - "$LAB_LAPTOP/dev/faults.xml" <<'PYTHON'
import sys, xml.etree.ElementTree as tree
cases = [(case.get("classname"), case.get("name")) for case in tree.parse(sys.argv[1]).iter("testcase")]
assert len(cases) == len(set(cases)) == 36 * 2 + 1, (len(cases), len(set(cases)))
PYTHON
nothing_left
