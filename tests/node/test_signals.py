"""Signals on their way from Slurm through a rank to its script."""

from __future__ import annotations

import json
import signal
import sys
from pathlib import Path

import pytest

from tests.node.test_wrapper_pythons import ready, start

BEFORE = """
import os, signal, time

rank, came = os.getppid(), []
def note(number, frame):
    came.append(signal.Signals(number).name)
def wait_for(name):
    until = time.monotonic() + 60
    while name not in came and time.monotonic() < until:
        time.sleep(0.01)
"""


def said(folder: Path) -> str:
    return (folder / "logs/worker-0.log").read_text()


@pytest.mark.parametrize("name", ["SIGUSR1", "SIGUSR2", "SIGCONT"])
def test_a_signal_that_slurm_repeats_reaches_the_script_once(tmp_path: Path, name: str) -> None:
    """One that is sent before a script has ended by the first kills it (signal(7))."""
    last = "SIGUSR2" if name == "SIGUSR1" else "SIGUSR1"
    text = f"""{BEFORE}
for one in ({name!r}, {last!r}):
    signal.signal(getattr(signal, one), note)
os.kill(rank, signal.{name})
wait_for({name!r})
os.kill(rank, signal.{name})
os.kill(rank, signal.{last})
wait_for({last!r})
print(came)
"""
    folder = ready(tmp_path, text, sys.executable)
    done = start(sys.executable, folder.path)
    assert done.returncode == 0, done.stderr
    assert said(folder.path) == f"{[name, last]}\n"


@pytest.mark.parametrize("tell", ["TERM", "INT", "USR1"])
def test_a_warning_that_reaches_the_script_itself_does_not_kill_it(
    tmp_path: Path, tell: str
) -> None:
    """Slurm sends signals to every process of a step with proctrack/linuxproc."""
    text = f"""{BEFORE}
signal.signal(signal.SIG{tell}, note)
os.kill(os.getpid(), signal.SIGUSR2)
os.kill(rank, signal.SIGUSR2)
wait_for("SIG{tell}")
print(came)
"""
    folder = ready(tmp_path, text, sys.executable)
    plan = json.loads(folder.plan_file.read_text())
    plan["interruption"].update(signal="USR2", tell=tell)
    folder.plan_file.write_text(json.dumps(plan))
    done = start(sys.executable, folder.path)
    assert done.returncode == 0, done.stderr
    assert said(folder.path) == f"{['SIG' + tell]}\n"


def test_a_script_may_choose_the_very_signal_that_slurm_sends(tmp_path: Path) -> None:
    text = "import os, signal\nos.kill(os.getpid(), signal.SIGUSR2)\n"
    folder = ready(tmp_path, text, sys.executable)
    plan = json.loads(folder.plan_file.read_text())
    plan["interruption"].update(signal="USR2", tell="USR2")
    folder.plan_file.write_text(json.dumps(plan))
    start(sys.executable, folder.path)
    ended = json.loads((folder.state / "worker-0.jsonl").read_text().splitlines()[-1])
    assert (ended["event"], ended["signal"]) == ("ended", signal.SIGUSR2)
