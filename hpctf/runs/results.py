"""What the ranks of a run have returned."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctf.errors import UnreadableRun, UsageError
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.rank_states import ranks_of

if TYPE_CHECKING:
    from submitit.core.core import Job


def unpickled(run: RunFolder, submitit: Path) -> list[Any]:
    """Return what the ranks' results hold, from the folder in which submitit keeps them."""
    from hpctf.submission.slurm_executor import reopen

    folder, job_id = str(run.path), run.job_id
    if job_id is None:
        why = "job_id is missing, by which the files of the results are named"
        raise UnreadableRun(folder, "run.json", why)
    ranks = len(ranks_of(run.plan))
    cluster = run.read_record().get("cluster")
    job: Job[Any] = reopen(run.plan["scheduler"], submitit, job_id, ranks, cluster)
    try:
        return [job.task(rank).result() for rank in range(ranks)]
    except ImportError as error:
        raise UsageError(
            f"The results of run {run.id} hold objects of packages that are not installed "
            f"here: {error}.",
            "Read them with the training's own Python, or return plain values (float(x), "
            "x.tolist()).",
        ) from None
    except Exception as error:  # a pickle may raise what it likes
        why = f"a result is missing or damaged ({type(error).__name__})"
        raise UnreadableRun(folder, "submitit", why) from error
