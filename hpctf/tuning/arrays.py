"""The jobs of a study's agents, or of its driver."""

from __future__ import annotations

from hpctf.agents.arrays import Arrays, Tell, submit_array
from hpctf.plan import Plan
from hpctf.submission.sbatch import uninterrupted
from hpctf.tuning.study import Study


def submit_agents(study: Study, plan: Plan, jobs: int, tell: Tell) -> None:
    """Submit the agents of a study whose folder is ready, or its driver, and put that on record.

    Parameters
    ----------
    jobs
        How many; 0 is the driver.
    tell
        Called with what was done where Slurm does not take them as one array.

    Raises
    ------
    SubmissionError
        Slurm takes none.
    """
    folder = study.folder
    progress = study.ledger.refresh()
    arrays = _arrays_of(study, plan, tell)
    arrays.begin()
    submission = progress.submission + 1 if progress.agents else 0
    agents = max(1, jobs * study.definition.per_job)
    study.ledger.append("submitted", submission=submission, agents=agents)
    if not jobs:
        with uninterrupted():
            job_id, cluster = submit_array(folder, plan, 0, 0)
            folder.update_record(job_id=job_id, cluster=cluster)
        return
    done = arrays.submit(jobs)
    if done < jobs:
        study.ledger.append("agents", agents=done * study.definition.per_job)


def add_agents(study: Study, plan: Plan, jobs: int, tell: Tell) -> int:
    """Submit more agents of a study that is under way; return how many jobs Slurm has taken.

    Raises
    ------
    SubmissionError
        It takes none.
    """
    per_job = study.definition.per_job
    with study.ledger.held() as progress:  # who else adds some counts on from there
        first = -(-progress.agents // per_job)
        study.ledger.append("agents", agents=(first + jobs) * per_job)
    return _arrays_of(study, plan, tell, first).submit(jobs)


def _arrays_of(study: Study, plan: Plan, tell: Tell, first: int = 0) -> Arrays:
    return Arrays(
        study.folder, plan, tell, "the study's trials", "hpctf tune set --parallel", first
    )
