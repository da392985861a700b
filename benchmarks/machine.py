"""Where and with what figures were measured."""

from __future__ import annotations

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from benchmarks.bench import ROOT


def describe() -> dict[str, str]:
    """Return the machine and the versions that the page names."""
    found = re.search(r"^model name\s*: (.+)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {
        "processor": f"{found[1] if found else platform.machine()}, {os.cpu_count()} CPUs",
        "memory": f"{memory:.0f} GiB",
        "system": f"{platform.freedesktop_os_release()['PRETTY_NAME']}, Linux {platform.release()}",
        "slurm": _printed("/usr/sbin/slurmctld", "-V").removeprefix("slurm-wlm ") or "none",
        "python": platform.python_version(),
        "submitit": version("submitit"),
    }


def code() -> str:
    """Return what identifies hpctf's code: git's tree of hpctf/, with a "+" if files there have
    changed since their commit."""
    tree = _printed("git", "-C", str(ROOT), "rev-parse", "--short=12", "HEAD:hpctf")
    changed = _printed("git", "-C", str(ROOT), "status", "--porcelain", "hpctf", "templates")
    return f"{tree}+" if changed else tree


def _printed(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True).stdout.strip()
    except FileNotFoundError:
        return ""
