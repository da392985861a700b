"""Ending what an earlier start of a heterogeneous job has left: ``start.py clear RUN_FOLDER``.

When a node dies, Slurm starts a job again that had tasks there. Of a heterogeneous job this is the
one component alone (measured: Slurm 22.05.8): the others stay, and their tasks run on, with nobody
to talk to. srun cannot start a step beside theirs: "Duplicate job step id".
"""

from __future__ import annotations

import os
import time

from hpctf.errors import SchedulerError
from hpctf.node.messages import say
from hpctf.scheduler.programs import ask

_LOOK_S = 0.5
_GONE_S = 120.0
"""Seconds that Slurm has to end the steps: four times its own KillWait (slurm.conf(5))."""


def end_earlier_steps() -> None:
    """End the steps of this job's other components, and return once they are gone.

    Its leader, where this runs, has been started anew: a step there is of the site's prologue.
    Raises `SchedulerError` if they are still there after two minutes.
    """
    leader = os.environ["SLURM_JOB_ID"]
    names = [name for name in os.environ if name.startswith("SLURM_JOB_ID_HET_GROUP_")]
    others = [os.environ[name] for name in names if os.environ[name] != leader]
    until = time.monotonic() + _GONE_S
    asked: set[str] = set()
    while steps := _steps(others):
        for step in sorted(steps - asked):
            say(f"ending step {step}, which an earlier start of this job has left")
            _slurm("scancel", step)
        asked |= steps
        if time.monotonic() > until:
            raise SchedulerError(
                f"Steps of an earlier start of this job do not end: {' '.join(sorted(steps))}.",
                "Cancel the run, and submit it again: hpctf resubmit.",
            )
        time.sleep(_LOOK_S)


def _steps(jobs: list[str]) -> set[str]:
    """Return the steps that srun has started, such as ``3125.0``: not ``3125.batch``."""
    listed = _slurm("squeue", "--noheader", "--steps", "--format=%i", f"--jobs={','.join(jobs)}")
    return {step for step in listed.split() if step.rpartition(".")[2].isdigit()}


def _slurm(*command: str) -> str:
    """Return what a command of Slurm's says; nothing if it fails: then srun will say why."""
    try:
        done = ask(command)
    except OSError:
        return ""
    return done.stdout if done.returncode == 0 else ""
