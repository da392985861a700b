"""What rows ask of Slurm."""

from __future__ import annotations

import getpass
import re
import subprocess
import time


def wait_until_empty() -> None:
    """Wait until no job of this user is in the queue."""
    while subprocess.check_output(["squeue", "--me", "--noheader"]):
        time.sleep(0.2)


def calls() -> int:
    """Return how many calls of this user Slurm's controller has answered (sdiag(1))."""
    printed = subprocess.run(["sdiag"], check=True, capture_output=True, text=True).stdout
    found = re.search(rf"^\s*{getpass.getuser()}\s*\(.*?count:(\d+)", printed, re.MULTILINE)
    return int(found[1]) if found else 0
