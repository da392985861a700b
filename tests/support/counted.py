"""What a command of hpctf opens, reads and holds in memory: figures that need no clock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import ROOT

_COUNT = """
import atexit, json, os, sys
opened = []
def note(event, args):
    if event in ("open", "os.scandir", "os.listdir"):
        opened.append(os.fspath(args[0]) if not isinstance(args[0], (int, type(None))) else "")
# A file of a run is opened from its folder's descriptor, which the audit event does not tell.
plain = os.open
def open_at(path, flags, *more, dir_fd=None, **options):
    descriptor = plain(path, flags, *more, dir_fd=dir_fd, **options)
    if dir_fd is not None and not flags & getattr(os, "O_PATH", 0):
        opened[-1] = os.readlink(f"/proc/self/fd/{descriptor}")
    return descriptor
os.open = open_at
def tell():
    read = int(open("/proc/self/io").read().split()[1])
    status = open("/proc/self/status").read().split()  # getrusage's has the parent's in it
    peak = int(status[status.index("VmHWM:") + 1]) * 1024
    names = [os.fsdecode(name) for name in opened]
    with open(os.environ["COUNTED"], "w") as stream:
        json.dump({"opened": names, "read": read, "peak": peak}, stream)
atexit.register(tell)
sys.addaudithook(note)
from hpctf.cli import main
main()
"""


@dataclass(frozen=True)
class Counted:
    """What a command did.

    Parameters
    ----------
    opened
        How often it opened each file, or looked into each folder.
    read, peak
        Bytes that it read in all, and that it held in memory at most.
    """

    opened: Counter[str]
    read: int
    peak: int
    stdout: Path

    def opened_below(self, folder: Path) -> int:
        """How often it opened anything in a folder."""
        return sum(n for name, n in self.opened.items() if name.startswith(f"{folder}/"))


def counted(*words: str | Path, cwd: Path) -> Counted:
    """Run an hpctf command in `cwd`, which must succeed, and return what it did."""
    told, out = cwd / "counted.json", cwd / "counted.out"
    env = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "HPCTF_RUNS_ROOT": str(cwd / "runs"),
        "COUNTED": str(told),
    }
    with out.open("wb") as stdout:
        command = [sys.executable, "-c", _COUNT, *words]
        done = subprocess.run(
            command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=stdout, stderr=-1
        )
    assert done.returncode == 0, done.stderr.decode()
    found = json.loads(told.read_text())
    return Counted(Counter(found["opened"]), found["read"], found["peak"], out)
