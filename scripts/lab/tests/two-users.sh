# Two people run the same project on the same hosts at the same time, and never meet.
# shellcheck shell=bash

for user in dev kim; do
  project=$LAB_LAPTOP/$user/shared-project
  mkdir -p "$project/tests"
  echo "$user" >"$project/owner.txt"
  for ((number = 0; number < 24; number++)); do
    cat >"$project/tests/test_$number.py" <<'PYTHON'
import os, pathlib, pwd, time

ME = pwd.getpwuid(os.getuid()).pw_name

def test_this_is_my_copy_and_my_account():
    assert pathlib.Path("owner.txt").read_text().strip() == ME
    assert f"_{ME}_" in os.environ["DISTRIBUTEST_RUNNER"]
    with open(pathlib.Path.home() / "times", "a") as times:
        print(time.time(), file=times)
    time.sleep(0.5)

def test_the_other_is_out_of_reach():
    other = {"dev": "kim", "kim": "dev"}[ME]
    root = os.path.expanduser(f"~{other}/.cache/distributest")
    assert not os.access(root, os.R_OK | os.W_OK | os.X_OK)
    assert os.stat(".").st_mode & 0o077 == 0, "others can enter the workspace"
PYTHON
  done
  own "$user" "$project"
done

run_as() { laptop "$1" distributest --project "/mnt/$1/shared-project" --json "/mnt/$1/shared.jsonl" >"$SCRATCH/$1.said" 2>&1; }
declare -A runs
for user in dev kim; do run_as $user & runs[$user]=$!; done
for user in dev kim; do
  status=0; wait "${runs[$user]}" || status=$?
  ok "$user's run passes" bash -c "cat '$SCRATCH/$user.said'; exit $status"
  ok "  with two results from each of 24 files" \
    [ "$(events "$LAB_LAPTOP/$user/shared.jsonl" 'of("run_finished")[0]["tests"]["passed"]')" = 48 ]
done
for host in h1 h2 h3; do
  for user in dev kim; do lab exec $host cat "/home/$user/times" >"$SCRATCH/$user.times"; done
  ok "  on $host their tests ran at the same time" python3 - "$SCRATCH"/{dev,kim}.times <<'PYTHON'
import sys
dev, kim = ([float(line) for line in open(path)] for path in sys.argv[1:])
assert max(dev[0], kim[0]) < min(dev[-1], kim[-1]), (dev[0], dev[-1], kim[0], kim[-1])
PYTHON
done
