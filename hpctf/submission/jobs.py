"""submitit's jobs, opened again in another process than the one that submitted them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from submitit.core.core import Job


def reopen(
    scheduler: str, folder: Path, job_id: str, num_tasks: int, cluster: str | None
) -> Job[Any]:
    """Return submitit's job of a run, whose results can be read once the run has ended.

    `cluster` is the Slurm cluster that has it; None is this machine's own.
    """
    tasks = list(range(num_tasks))
    if scheduler == "local":
        from submitit.local.local import LocalJob

        return LocalJob(folder, job_id, tasks=tasks)
    from hpctf.submission.slurm_executor import job_class

    return job_class(cluster)(folder, job_id, tasks=tasks)
