"""What a result must be read with: the machine, how busy it was, and which commit was measured."""

import datetime
import os
import platform
import re
import subprocess

from bench import ROOT


def describe(program):
    """With the program's path, where it may be of another commit than the benchmarks are."""
    return {
        "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "program": program,
        "cpu": cpu(),
        "cores": os.cpu_count(),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "kernel": platform.release(),
        "load": round(os.getloadavg()[0], 2),
    }


def in_words(machine):
    return (
        f"{machine['date']}, commit {machine['commit']}{of(machine['program'])}, {machine['cores']} cores of {machine['cpu']}, "
        f"{machine['memory_bytes'] / 2**30:.0f} GB, Linux {machine['kernel']}, load {machine['load']}"
    )


def of(program):
    return f" (measured: {program})" if program else ""


def commit():
    def git(*arguments):
        return subprocess.run(["git", "-C", ROOT, *arguments], capture_output=True, text=True, check=False).stdout.strip()

    changed = git("status", "--porcelain", "--untracked-files=no")
    return (git("rev-parse", "--short=12", "HEAD") or "unknown") + (" with changes" if changed else "")


def cpu():
    with open("/proc/cpuinfo", encoding="utf-8") as file:
        name = re.search(r"^model name\s*:\s*(.*)$", file.read(), re.MULTILINE)
    return name[1] if name else platform.machine()
