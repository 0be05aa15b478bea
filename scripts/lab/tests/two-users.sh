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
OTHER = {"dev": "kim", "kim": "dev"}[ME]

def test_this_is_my_copy_and_my_account():
    assert pathlib.Path("owner.txt").read_text().strip() == ME
    assert f"_{ME}_" in os.environ["DISTRIBUTEST_RUNNER"]

def test_the_other_is_here_too():
    pathlib.Path(f"/tmp/{ME}-is-here").touch()
    patience = time.monotonic() + 60
    while not os.path.exists(f"/tmp/{OTHER}-is-here"):
        assert time.monotonic() < patience, f"{OTHER} never came"
        time.sleep(0.05)
    time.sleep(0.2)

def test_the_other_is_out_of_reach():
    files = os.path.expanduser(f"~{OTHER}/.cache/distributest")
    for mode in os.R_OK, os.W_OK, os.X_OK:
        assert not os.access(files, mode)
PYTHON
  done
  own "$user" "$project"
  # One runner on each host, so that neither waits for the other while it holds every slot.
  sed -i 's/^runners = 2/runners = 1/' "$LAB_LAPTOP/$user/.config/distributest/config.toml"
done

run_as() { laptop "$1" distributest --project "/mnt/$1/shared-project" --json "/mnt/$1/shared.jsonl" >"$SCRATCH/$1.said" 2>&1; }
declare -A runs
for user in dev kim; do run_as $user & runs[$user]=$!; done
for user in dev kim; do
  status=0; wait "${runs[$user]}" || status=$?
  ok "$user's run passes" bash -c "cat '$SCRATCH/$user.said'; exit $status"
  ok "  with three results from each of 24 files" \
    [ "$(events "$LAB_LAPTOP/$user/shared.jsonl" 'of("run_finished")[0]["tests"]["passed"]')" = 72 ]
  ok "  and on every host" \
    [ "$(events "$LAB_LAPTOP/$user/shared.jsonl" 'len({event["host"] for event in of("attempt_finished")})')" = 3 ]
  write_config "$user" h1 h2 h3
done
