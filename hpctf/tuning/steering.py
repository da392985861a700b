"""Changing a study that is under way, or going on with one: all by its ledger and its job."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

from hpctf.common.files import write_json
from hpctf.common.processes import user_name
from hpctf.errors import HpctfError, SchedulerError, UsageError, shown
from hpctf.plan import Plan
from hpctf.run_folder.ownership import owner_of
from hpctf.runs.cancelling import cancel
from hpctf.runs.status.query import look
from hpctf.scheduler import commands
from hpctf.tuning.study import Study
from hpctf.tuning.submit import MOST_JOBS, submit_agents

_SLURM_S = 20.0
_FULFILLED = ("dependency", "kill-on-invalid-dep")
"""Options of the first submission that no longer hold: Slurm forgets the jobs that they name."""


def stop(study: Study, reason: str = "") -> None:
    """End a study: trials that run are ended with their grace, and none begins.

    One that is over stays as it is. Where nobody drives it any more, or its driver waits in the
    queue, jobs of trials are cancelled from here.

    Raises
    ------
    UsageError, SchedulerError
        It is somebody else's, or Slurm refuses.
    """
    _check_owner(study)
    folder = study.folder
    by = user_name()
    if look(folder).final:
        _end_jobs(study, f"the study was stopped by user {by}")
        return
    # the ledger first: agents that find the file alone would not know the reason
    with study.ledger.held() as progress:
        if not progress.closed and not progress.stopped:
            words = reason or f"the study was stopped by user {by}"
            study.ledger.append("stop", reason=words, by=by)
    write_json(folder.cancelled, {"time": time.time(), "by": by}, shared=True)
    # agents that wait have nothing to do; those that run end by themselves once their trial has
    command = ["scancel", *_clusters(study), "--state=PENDING", str(folder.job_id)]
    commands.run(command, _SLURM_S)
    if study.is_driven and look(folder).state in ("Queued", "Canceled"):
        _end_jobs(study, reason or f"the study was stopped by user {by}")


def _end_jobs(study: Study, reason: str) -> None:
    """Cancel the jobs of a study's trials that nobody drives, and enter their ends."""
    if not study.is_driven:
        return
    for trial in study.ledger.refresh().running:
        if trial.job_id:
            cancel(study.trial(trial.number))
    with study.ledger.held() as progress:
        for trial in progress.running:
            study.ledger.end(trial.number, trial.attempt, "canceled", reason)


def resume(study: Study) -> int:
    """Go on with a study that has ended before all of its trials have; return how many are left.

    Trials that were handed back, or whose agents died, go on from their checkpoints. What has
    ended, also by being cancelled, stays so.

    Raises
    ------
    UsageError
        It still runs, nothing is left to do, or it is somebody else's.
    """
    _check_owner(study)
    folder = study.folder
    state = look(folder)
    if not state.final:
        raise UsageError(
            f"Study {study.id} has not ended: it is {state.state}.",
            f"To see how far it is: hpctf tune status {study.id}",
        )
    progress = study.ledger.refresh()
    ended = sum(trial.is_over for trial in progress.trials.values())
    left = study.definition.total - ended
    if not left:
        raise UsageError(f"All {ended} trials of study {study.id} have ended.")
    folder.final.unlink(missing_ok=True)
    folder.cancelled.unlink(missing_ok=True)
    parallel = min(left, study.definition.parallel)
    _submit(study, 0 if study.is_driven else -(-parallel // study.definition.per_job))
    return left


def set_parallel(study: Study, most: int) -> None:
    """Change how many trials run at a time; trials that run already are left alone.

    Below the number of agents, agents end once their trials have; Slurm starts no more of the
    array's tasks at a time either.

    Raises
    ------
    UsageError
        More than the study has agents, or not a number of trials.
    """
    _check_owner(study)
    progress = study.ledger.refresh()
    if study.is_driven:
        _check_most(most, study.definition.total, "trials")
        study.ledger.append("parallel", most=most)
        return
    if type(most) is not int or not 1 <= most <= progress.agents:
        raise UsageError(
            f"--parallel is {most}, but must be a whole number from 1 to {progress.agents}, the "
            f"number of agents of study {study.id}."
        )
    study.ledger.append("parallel", most=most)
    jobs = -(-most // study.definition.per_job)
    with contextlib.suppress(SchedulerError):  # the ledger says it to those that run
        job = f"JobId={study.folder.job_id}"
        command = ["scontrol", *_clusters(study), "update", job, f"ArrayTaskThrottle={jobs}"]
        commands.run(command, _SLURM_S)


def _check_most(most: int, limit: int, what: str) -> None:
    if type(most) is not int or not 1 <= most <= limit:
        raise UsageError(
            f"--parallel is {shown(most)}, but must be a whole number from 1 to {limit}, the "
            f"number of {what}."
        )


def _submit(study: Study, jobs: int) -> None:
    plan = Plan.from_json(_plan_text(study))
    agents = replace(plan.roles[0], count=max(1, jobs * study.definition.per_job))
    options = dict(plan.components[0].directives)
    for name in _FULFILLED:
        options.pop(name, None)
    component = replace(plan.components[0], directives=tuple(options.items()))
    again = replace(plan, roles=(agents,), components=(component,))
    try:
        submit_agents(study, again, min(jobs, MOST_JOBS))
    except HpctfError as error:
        study.ledger.append("closed", state="Failed", reason=f"it was not resumed: {error.message}")
        raise


def _plan_text(study: Study) -> str:
    import json

    plan = dict(study.folder.plan)
    plan.pop("format", None)
    return json.dumps(plan)


def _check_owner(study: Study) -> None:
    owner = owner_of(study.folder.path)
    if owner is not None:
        raise UsageError(f"Study {study.id} belongs to {owner}.", f"Let {owner} do it.")


def _clusters(study: Study) -> list[str]:
    return commands.clusters_option(study.folder.read_record().get("cluster"))
