"""submitit's Slurm executor with hpctf's script, ids and watcher."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from submitit.core import core
from submitit.core.utils import DelayedSubmission, JobPaths
from submitit.slurm.slurm import SlurmJob

from hpctf.errors import SchedulerError
from hpctf.plan import Plan
from hpctf.scheduler.commands import clusters_option
from hpctf.scheduler.jobs import Identity
from hpctf.scheduler.slurm import Slurm
from hpctf.submission.payload import PAYLOAD, write_payload
from hpctf.submission.sbatch import sbatch, write_script

if TYPE_CHECKING:
    from hpctf.run_folder.layout import RunFolder

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
        """Return Slurm's state of a job; ``UNKNOWN`` until Slurm has been asked."""
        return self.get_info(job_id, mode=mode).get("State") or "UNKNOWN"

    def is_done(self, job_id: str, mode: str = "standard") -> bool:
        """Whether a job has ended for good; a suspended one has not."""
        self.get_state(job_id, mode)
        return job_id in self._finished


class TemplateJob(SlurmJob[Any]):
    """A job submitted by `TemplateExecutor`."""

    _results_timeout_s = 2
    watcher = QueueWatcher()  # type: ignore[assignment]


@lru_cache
def job_class(cluster: str | None) -> type[TemplateJob]:
    """Return the class of a cluster's jobs: submitit has one watcher a class, not a job."""
    if cluster is None:
        return TemplateJob
    return type("TemplateJob", (TemplateJob,), {"watcher": QueueWatcher(cluster=cluster)})


class TemplateExecutor(core.Executor):
    """Submits a script that hpctf rendered, as a job of its own or as a job array.

    Parameters
    ----------
    plan
        The first run's: the job has its name, its clusters and its umask.
    folders
        The folder of every run, one a task of the array; one folder is a plain job.
    script
        The batch script's text.
    source_directory
        Modules that lie there go with the snapshot instead of the pickle.
    """

    def __init__(
        self,
        plan: Plan,
        folders: Sequence[RunFolder],
        script: str,
        source_directory: Path | None = None,
    ) -> None:
        super().__init__(folders[0].submitit)
        self._plan = plan
        self._folders = folders
        self._script = script
        self._source_directory = source_directory
        self.cluster: str | None = None

    def _internal_process_submissions(
        self, delayed_submissions: list[DelayedSubmission]
    ) -> list[core.Job[Any]]:
        """Put every payload in place, then submit once: the job need not wait for its payload."""
        for submission, folder in zip(delayed_submissions, self._folders, strict=True):
            write_payload(submission, folder.submitit, self._source_directory)
        file, clusters = self._folders[0].script, self._plan.clusters
        write_script(file, self._script)
        # A line of the script would count less than a variable of the shell's (sbatch(1)).
        command = ["sbatch", "--parsable", *clusters_option(clusters), str(file)]
        identity = Identity(os.geteuid(), None, frozenset({self._plan.run_id}), str(file))
        umask = int(self._plan.umask, 8)
        main_id, self.cluster = sbatch(command, umask, identity, clusters, file.parent)

        jobs: list[core.Job[Any]] = []
        for number, folder in enumerate(self._folders):
            job_id = main_id if len(self._folders) == 1 else f"{main_id}_{number}"
            JobPaths(folder.submitit, job_id).submitted_pickle.symlink_to(PAYLOAD)
            jobs.append(reopen("slurm", folder.submitit, job_id, self._plan.tasks, self.cluster))
        return jobs


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
