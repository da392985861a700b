"""What rows ask of Slurm."""

from __future__ import annotations

import getpass
import re
import subprocess
import time

LONGEST_S = 20


def wait_until_empty() -> None:
    """Wait until no job of this user is in the queue, and cancel what is there for longer: TorchX's
    heterogeneous steps were seen to hang at their end."""
    deadline = time.monotonic() + LONGEST_S
    while subprocess.check_output(["squeue", "--me", "--noheader"]):
        if time.monotonic() > deadline:
            subprocess.run(["scancel", "--me"], check=True)
        time.sleep(0.2)


def calls() -> int:
    """Return how many calls of this user Slurm's controller has answered (sdiag(1))."""
    printed = subprocess.run(["sdiag"], check=True, capture_output=True, text=True).stdout
    found = re.search(rf"^\s*{getpass.getuser()}\s*\(.*?count:(\d+)", printed, re.MULTILINE)
    return int(found[1]) if found else 0
