# Two files that do not fit together on a host: the one that the kernel kills runs once more alone, and passes.
# shellcheck shell=bash

project=$LAB_LAPTOP/dev/hungry
mkdir -p "$project/tests"
for name in one two; do
  cat >"$project/tests/test_$name.py" <<'PYTHON'
import os, time

def test_is_hungry():
    memory = bytearray(300_000_000)
    for page in range(0, len(memory), 4096):
        memory[page] = 1
    # Until the other one is there as well, or will never be.
    open("{}.{}".format(os.path.basename(__file__), os.getppid()), "w").close()
    until = time.monotonic() + 5
    while time.monotonic() < until and len([name for name in os.listdir(".") if ".py." in name]) < 2:
        time.sleep(0.01)
    time.sleep(0.5)
PYTHON
done
own dev "$project"

lab mem h1 500M
export EVENTS=$LAB_LAPTOP/dev/hungry.jsonl
ok "the run passes" laptop dev distributest --project /mnt/dev/hungry --hosts h1 --json /mnt/dev/hungry.jsonl
lab mem h1 off
ok "  the kernel has killed one of them, which is said" \
  happened "sum('for lack of memory' in event['message'] for event in of('attempt_finished')) == 1"
ok "  for that one the host was reserved" changed h1 reserved
ok "  which passed then" happened "sorted(event['verdict'] for event in of('file_verdict')) == ['flaky', 'passed']"
ok "  the other one ran to its end before" \
  happened "[event['outcome'] for event in of('attempt_finished')] == ['crashed', 'passed', 'passed']"
ok "  what they needed is known" \
  happened "all(event['peak_memory_bytes'] > 300e6 for event in of('attempt_finished') if event['outcome'] == 'passed')"
