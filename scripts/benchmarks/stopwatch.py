"""Runs a command and says how long it took, what it used and how it ended.

    stopwatch.py OUTPUT COMMAND...

writes what the command wrote to the file OUTPUT, and the result as JSON to standard output. So a command can be measured
where it runs (in the lab, say) without what it takes to get there.
"""

import ctypes
import json
import os
import subprocess
import sys
import time

PR_SET_CHILD_SUBREAPER = 36


def run(command, output, directory=None, environment=None):
    """Memory is the command's own, or that of its largest descendant that it waited for. Processor time is that of all
    descendants, also of those that end within a second after the command, which is waited for."""
    ctypes.CDLL(None).prctl(PR_SET_CHILD_SUBREAPER, 1)
    with open(output, "wb") as file:
        began, start = time.time(), time.monotonic()
        process = subprocess.Popen(
            command, cwd=directory, env=environment, stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.STDOUT
        )
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    return {
        "status": process.returncode,
        "began": began,
        "seconds": seconds,
        "cpu_seconds": processor_time(usage) + sum(map(processor_time, orphans(time.monotonic() + 1))),
        "peak_bytes": usage.ru_maxrss * 1024,
    }


def processor_time(usage):
    return usage.ru_utime + usage.ru_stime


def orphans(deadline):
    """What the command's descendants that outlive it have used, as they end."""
    while time.monotonic() < deadline:
        try:
            pid, _, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid:
            yield usage
        else:
            time.sleep(0.005)


if __name__ == "__main__":
    print(json.dumps(run(sys.argv[2:], sys.argv[1])))
