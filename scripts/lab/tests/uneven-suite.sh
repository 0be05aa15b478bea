# 120 files of uneven length: the second run comes within 10 % of the shortest time possible.
# shellcheck shell=bash

project=$LAB_LAPTOP/dev/uneven
mkdir -p "$project/tests"
for ((number = 0; number < 120; number++)); do
  # A few seconds for some, a fraction of one for most; neighbours have nothing in common.
  seconds=$(awk -v place=$((number * 37 % 120)) 'BEGIN { printf "%.3f", 0.1 + 4 * (place / 120) ^ 4 }')
  printf 'import time\n\n\ndef test_it():\n    time.sleep(%s)\n' "$seconds" >"$project/tests/test_$number.py"
done
own dev "$project"

for run in first second; do
  ok "$run run passes" laptop dev distributest --project /mnt/dev/uneven --json "/mnt/dev/uneven.$run.jsonl"
done
second=$LAB_LAPTOP/dev/uneven.second.jsonl
summary='of("run_finished")[0]'
note "second run: $(events "$second" "${summary}['testing_seconds'], 's; lower bound', ${summary}['lower_bound_seconds'], 's'")"
ratio=$(events "$second" "${summary}['testing_seconds'] / ${summary}['lower_bound_seconds']")
ok "second run takes at most 1.10 of the lower bound ($ratio)" at_most "$ratio" 1.10
ok "every file ran exactly once" \
  [ "$(events "$second" 'sorted(event["file_id"] for event in of("attempt_started")) == list(range(120))')" = True ]
ok "the plan is slowest first" \
  [ "$(events "$second" '(lambda files: files == sorted(files, reverse=True))([file["predicted"] for file in of("run_started")[0]["files"]])')" = True ]
# Six runners start at once, and what they say may overtake each other on the way.
ok "they started in the order of the plan" \
  [ "$(events "$second" 'max(abs(event["file_id"] - place) for place, event in enumerate(of("attempt_started"))) < 6')" = True ]
