# An idle resident agent holds less than 6 MB, also after it has served runs.
# shellcheck shell=bash

resident_kilobytes() { lab exec "$1" awk '/^VmRSS:/ { print $2 }' "/proc/$(agent_pid "$1")/status"; }
served=$(resident_kilobytes h1)
lab exec h1 systemctl restart runner-agent
fresh=$(resident_kilobytes h1)
note "resident: $served kB after the runs above, $fresh kB after a restart"
ok "after a restart it holds less than 6 MB" at_most "$fresh" 6000
ok "after runs it holds less than 6 MB" at_most "$served" 6000
