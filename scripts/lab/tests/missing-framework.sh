# A host without Ruby in a project that also has pytest files: it runs those, the others run the specs.
# shellcheck shell=bash

project=$LAB_LAPTOP/dev/two-frameworks
mkdir -p "$project/tests" "$project/spec"
for ((number = 0; number < 18; number++)); do
  printf 'import time\n\ndef test_it(): time.sleep(0.2)\n' >"$project/tests/test_$number.py"
  echo "RSpec.describe('word $number') { it('is one') { sleep 0.2 } }" >"$project/spec/word_${number}_spec.rb"
done
own dev "$project"
lab exec h2 mv /usr/bin/ruby /usr/bin/ruby.away

run() { laptop dev distributest --project two-frameworks --json /mnt/dev/two-frameworks.jsonl "$@" 2>"$SCRATCH/messages"; }
expression() { events "$LAB_LAPTOP/dev/two-frameworks.jsonl" "$1"; }
said_once() { cat "$SCRATCH/messages"; [ "$(grep -c "h2 can't run rspec: none of these programs is there: .*ruby" "$SCRATCH/messages")" = 1 ]; }
passed='[event for event in of("attempt_finished") if event["outcome"] == "passed"]'

ok "all files pass" run
ok "  it is said once that h2 has no Ruby" said_once
ok "  with what to do about it" grep -q 'install it on this host' "$SCRATCH/messages"
ok "  h2 ran pytest files, and nothing else" \
  [ "$(expression "{event['file'].split('/')[0] for event in $passed if event['host'] == 'h2'}")" = "{'tests'}" ]
ok "  every file has one outcome" [ "$(expression "sorted(event['file_id'] for event in $passed) == list(range(36))")" = True ]
ok "  no spec was tried twice on a runner of h2" \
  [ "$(expression "len([event for event in of('attempt_finished') if event['interruption']]) <= 2")" = True ]

status=0; run --hosts h2 >"$SCRATCH/alone" || status=$?
ok "alone, h2 leaves the specs: exit status 3" [ "$status" = 3 ]
ok "  it is said once" said_once
ok "  and again at the end" grep -q '18 files: no runner could run it: none of these programs is there: .*ruby' "$SCRATCH/alone"
ok "  the pytest files passed" [ "$(expression 'of("run_finished")[0]["outcomes"]["passed"]')" = 18 ]
lab exec h2 mv /usr/bin/ruby.away /usr/bin/ruby
