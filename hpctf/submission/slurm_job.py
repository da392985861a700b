"""submitit's Slurm jobs with hpctf's watcher."""

from __future__ import annotations

import os
import time
from functools import lru_cache
from pathlib import Path
from typing import Any

from submitit.core import core
from submitit.slurm.slurm import SlurmJob

from hpctf.errors import SchedulerError
from hpctf.scheduler.jobs import Identity
from hpctf.scheduler.slurm import Slurm

_MINE = Identity(os.geteuid())


class QueueWatcher(core.InfoWatcher):
    """submitit's watcher, asking squeue first: it needs no accounting, and knows het jobs.

    A job that sacct does not know, and of which slurmctld says that it does not, is ``GONE``, and
    so done: nobody waits for it for ever.
    """

    def __init__(self, delay_s: int = 30, cluster: str | None = None) -> None:
        super().__init__(delay_s=delay_s)
        self._cluster = cluster

    def update(self) -> None:
        """Ask once for every registered job that has not ended."""
        self._num_calls += 1
        waiting = self._registered - self._finished
        try:
            slurm = Slurm(self._cluster)
            known = slurm.query(dict.fromkeys(waiting, _MINE))
            missing = waiting - known.keys()
            alone = {job_id: slurm.ask(job_id, _MINE) for job_id in missing}
        except SchedulerError:
            return  # Slurm is away: what was known stays so, and the next turn asks again
        finally:
            self._last_status_check = time.time()
        for job_id in waiting:
            status = known.get(job_id) or alone[job_id]
            self._info_dict[job_id] = {"State": status.state if status else "GONE"}
            if status is None or not status.active:
                self._finished.add(job_id)

    def get_state(self, job_id: str, mode: str = "standard") -> str:
        """Return Slurm's state of a job; ``UNKNOWN`` until it has been asked for."""
        return self.get_info(job_id, mode=mode).get("State") or "UNKNOWN"

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        """Whether a job has ended for good; a suspended one has not."""
        self.get_state(job_id, mode)
        return job_id in self._finished


class TemplateJob(SlurmJob[Any]):
    """A job of Slurm's as submitit sees it, whose watcher is `QueueWatcher`."""

    _results_timeout_s = 2
    watcher = QueueWatcher()  # type: ignore[assignment]


@lru_cache
def job_class(cluster: str | None) -> type[TemplateJob]:
    """Return the class of a cluster's jobs: submitit has one watcher a class, not a job."""
    if cluster is None:
        return TemplateJob
    return type("TemplateJob", (TemplateJob,), {"watcher": QueueWatcher(cluster=cluster)})


def reopen(
    scheduler: str, folder: Path, job_id: str, num_tasks: int, cluster: str | None
) -> core.Job[Any]:
    """Return submitit's job of a run, whose results can be read once the run has ended.

    `cluster` is the Slurm cluster that has it; None is this machine's own.
    """
    tasks = list(range(num_tasks))
    if scheduler == "local":
        from submitit.local.local import LocalJob

        return LocalJob(folder, job_id, tasks=tasks)
    return job_class(cluster)(folder, job_id, tasks=tasks)
