"""Looking after an srun that may not end: ``start.py attend RUN_FOLDER PID``.

Now and then srun goes on for ever though every task of a step over several components has ended
(measured: Slurm 22.05.8, 2 of 56 heterogeneous jobs whose tasks ended within 0.1 s of each other).
It is ended then; the ranks' own records say how the step went.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from hpctf.files import read_json
from hpctf.node.ends import Ends, attempt_of
from hpctf.scheduler.local import start_time

_LOOK_S = 0.5
_GRACE_S = 3.0
"""Seconds that srun has to end of itself once every rank has."""


def attend(run_folder: str, pid: int) -> int:
    """Return once srun has ended, of itself or for us."""
    plan = read_json(os.path.join(run_folder, "plan.json"))
    ends = Ends(run_folder, plan["roles"], attempt_of(os.environ))
    until: float | None = None
    while start_time(pid) is not None:
        if until is None and ends.all():
            until = time.monotonic() + _GRACE_S
        if until is not None and time.monotonic() >= until:
            print("hpctf: every rank has ended, but srun has not: ending it", file=sys.stderr)
            os.kill(pid, signal.SIGKILL)
            return 0
        time.sleep(_LOOK_S)
    return 0
