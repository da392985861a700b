"""Looking after an srun that may not end: ``start.py attend RUN_FOLDER PID``.

Now and then srun goes on for ever though every task of a step over several components has ended
(measured: Slurm 22.05.8, 2 of 56 heterogeneous jobs whose tasks ended within 0.1 s of each other).
It is ended then, and also some time after a rank has failed, when those that Slurm killed have left
no record of their end; the ranks' own records say how the step went.
"""

from __future__ import annotations

import os
import signal
import time

from hpctf.common.processes import start_time
from hpctf.node.completion import Ends, attempt_of, has_failed
from hpctf.node.messages import say
from hpctf.node.process import KILL_AFTER_S
from hpctf.run_folder.documents import read_plan

_LOOK_S = 0.5
_GRACE_S = 3.0
"""Seconds that srun has to end of itself once every rank has."""
_FAILED_S = KILL_AFTER_S + 4.0
"""Seconds that it has to end all the others once one has failed."""


def attend(run_folder: str, pid: int) -> int:
    """Return once srun has ended, of itself or for us."""
    plan = read_plan(run_folder)
    attempt = attempt_of(os.environ)
    ends = Ends(run_folder, plan["roles"], attempt)
    until = float("inf")
    while start_time(pid) is not None:
        now = time.monotonic()
        if ends.all():
            until = min(until, now + _GRACE_S)
        elif has_failed(run_folder, attempt):
            until = min(until, now + _FAILED_S)
        if now >= until:
            say("the training has ended, but srun has not: ending it")
            os.kill(pid, signal.SIGKILL)
            return 0
        time.sleep(_LOOK_S)
    return 0
