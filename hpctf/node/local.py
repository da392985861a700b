"""The controller of a local run: ``python start.py local RUN_FOLDER``.

submitit's controller starts the ranks; this one also ends all of them once one fails, gives them
time to end, and leaves the job's verdict, as srun and the batch script do on a cluster.
"""

from __future__ import annotations

import os
import signal
import sys
import time

from submitit.local.local import Controller

from hpctf.node.conclude import conclude
from hpctf.node.process import KILL_AFTER_S

_POLL_S = 0.05
_GRACE_S = KILL_AFTER_S + 2.0


class RunController(Controller):
    """submitit's controller, with srun's ``--kill-on-bad-exit``."""

    def wait(self, freq: int = 24) -> list[int | None]:
        """Wait until every rank has ended, one has failed, or the time is up."""
        until = time.monotonic() + self.timeout_s
        while time.monotonic() < until:
            codes = [task.poll() for task in self.tasks]
            if all(code is not None for code in codes) or any(codes):
                return codes
            time.sleep(_POLL_S)
        print(f"hpctf: the time limit of {self.timeout_s} s has passed", file=sys.stderr)
        return [task.poll() for task in self.tasks]

    def kill_tasks(self) -> None:
        """End what still runs: SIGTERM, then SIGKILL once the ranks have had their time."""
        self._forward_signal(signal.SIGTERM)
        until = time.monotonic() + _GRACE_S
        while any(task.poll() is None for task in self.tasks) and time.monotonic() < until:
            time.sleep(_POLL_S)
        for task in self.tasks:
            if task.poll() is None:
                task.kill()
                task.wait()
        self.codes = [task.returncode for task in self.tasks]
        super().kill_tasks()


def run_local(run_folder: str) -> int:
    """Run every rank and return the job's exit code."""
    controller = RunController(os.path.join(run_folder, "submitit"))  # type: ignore[arg-type]
    controller.run(max_retry=1)
    return conclude(run_folder, next((abs(code) for code in controller.codes if code), 0))
