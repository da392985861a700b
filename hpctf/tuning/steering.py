"""Changing a study that is under way, or going on with one: all by its ledger and its job."""

from __future__ import annotations

import contextlib
import time
from dataclasses import replace

from hpctf.common.files import write_json
from hpctf.common.notes import notify
from hpctf.common.processes import user_name
from hpctf.errors import HpctfError, SchedulerError, UsageError, shown
from hpctf.plan import Plan
from hpctf.run_folder.ownership import owner_of
from hpctf.runs.cancelling import cancel
from hpctf.runs.status.query import job_ids, look
from hpctf.scheduler import commands
from hpctf.scheduler.slurm import Slurm
from hpctf.tuning.arrays import add_agents, submit_agents
from hpctf.tuning.study import Study
from hpctf.tuning.submit import MOST_JOBS

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
    ids = job_ids(folder.read_record())
    commands.run(["scancel", *_clusters(study), "--state=PENDING", *ids], _SLURM_S)
    if study.is_driven and look(folder).state in ("Queued", "Canceled"):
        _end_jobs(study, reason or f"the study was stopped by user {by}")


def _end_jobs(study: Study, reason: str) -> None:
    """Cancel the jobs of a study's trials that nobody drives, and enter their ends."""
    if not study.is_driven:
        return
    for trial in study.ledger.refresh().running:
        folder = study.trial(trial.number)
        if folder.record_file.exists():  # else it was never submitted
            cancel(folder)
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
        raise UsageError(
            f"All {ended} trials of study {study.id} have ended.",
            "To continue, start a new study with resume_from.",
        )
    folder.final.unlink(missing_ok=True)
    folder.cancelled.unlink(missing_ok=True)
    parallel = min(left, study.definition.parallel)
    _submit(study, 0 if study.is_driven else -(-parallel // study.definition.per_job))
    return left


def set_parallel(study: Study, most: int) -> None:
    """Change how many trials run at a time; trials that run already are left alone.

    With fewer, agents end once their trials have, and Slurm starts no more of the array's tasks at
    a time either. With more, agents are submitted in place of those that have ended, and beyond.

    Raises
    ------
    UsageError
        Not a number of trials, or the study is over.
    SchedulerError
        Slurm cannot be asked, or takes no more agents.
    """
    _check_owner(study)
    total = study.definition.total
    if type(most) is not int or not 1 <= most <= total:
        raise UsageError(
            f"--parallel is {shown(most)}, but must be a whole number from 1 to {total}, the "
            f"number of trials of study {study.id}."
        )
    state = look(study.folder)
    if state.final:
        raise UsageError(
            f"Study {study.id} is over: it is {state.state}.",
            f"To continue with the rest: hpctf tune resume {study.id}",
        )
    progress = study.ledger.append("parallel", most=most)
    if study.is_driven:
        return

    jobs = -(-most // study.definition.per_job)
    ids = job_ids(study.folder.read_record())
    for job_id in ids:
        with contextlib.suppress(SchedulerError):  # the ledger says it to those that run
            change = (f"JobId={job_id}", f"ArrayTaskThrottle={jobs}")
            commands.run(["scontrol", *_clusters(study), "update", *change], _SLURM_S)
    there = Slurm(study.folder.read_record().get("cluster")).active_tasks(ids)
    left = total - sum(trial.is_over for trial in progress.trials.values())
    missing = min(jobs, -(-left // study.definition.per_job)) - there
    if missing > 0:
        add_agents(study, _plan_again(study), missing, notify)


def _plan_again(study: Study) -> Plan:
    """Return the plan of agents, or of a driver, that are submitted after the first ones."""
    plan = Plan.from_json(_plan_text(study))
    options = dict(plan.components[0].directives)
    for name in _FULFILLED:
        options.pop(name, None)
    component = replace(plan.components[0], directives=tuple(options.items()))
    return replace(plan, components=(component,))


def _submit(study: Study, jobs: int) -> None:
    try:
        submit_agents(study, _plan_again(study), min(jobs, MOST_JOBS), notify)
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
