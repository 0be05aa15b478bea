# Other people's projects give the same results on three hosts as under their framework's own runner.
# shellcheck shell=bash

"$ROOT/scripts/third-party" boltons click hashie >"$SCRATCH/projects"
while read -r name framework directory _ <&3; do
  copy_project dev "$directory"
  ok "$name on three hosts gives the results of $framework" \
    laptop dev compare --events "/mnt/dev/$name.jsonl" "$framework" "/mnt/dev/$name"
  note "$(tail -2 "$SCRATCH/said" | head -1)"
  agents=$(events "$LAB_LAPTOP/dev/$name.jsonl" 'sorted((event["host"], event["agent"].split()[0]) for event in of("host_connected"))')
  ok "  h1 and h2 by their resident agents, h3 by a private one" \
    [ "$agents" = "[('h1', 'resident'), ('h2', 'resident'), ('h3', 'private')]" ]
done 3<"$SCRATCH/projects"

# A small suite may be over before h3 has its agent, so all of them are looked at together.
cat "$LAB_LAPTOP"/dev/{boltons,click,hashie}.jsonl >"$SCRATCH/third-party.jsonl"
ok "every host ran files" \
  [ "$(events "$SCRATCH/third-party.jsonl" 'sorted({event["host"] for event in of("attempt_finished")})')" = "['h1', 'h2', 'h3']" ]
