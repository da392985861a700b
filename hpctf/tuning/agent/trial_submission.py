"""Submitting a trial as a run of its own: once, whenever the driver that does it is killed.

A trial's folder has its record before sbatch is called. A driver that finds a record without a
job's id asks what became of the submission, as `hpctf.runs.status.lost_submissions` does for every
run: the job has the trial's id for a name.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from hpctf.errors import SubmissionError
from hpctf.estimator.request import estimator_from
from hpctf.plan import Plan
from hpctf.run_folder.layout import RunFolder
from hpctf.runs.status.lost_submissions import fates, this_process
from hpctf.submission.submit import submit_plans
from hpctf.tuning.agent.trial_folder import make_trial
from hpctf.tuning.study import Study


class NotYetKnown(Exception):
    """Whether Slurm has taken the job of an earlier submission shows later."""


def submit_trial(study: Study, number: int, may_submit: Callable[[], None]) -> str:
    """Submit a trial unless that was done before, and return its job's id.

    Parameters
    ----------
    may_submit
        Called last before sbatch: it raises if nothing is to be submitted.

    Raises
    ------
    NotYetKnown
        An earlier submission was cut short, and may yet turn out to have made a job.
    SubmissionError
        Slurm refused: there is no job.
    NoAnswer
        There may be a job.
    OSError, HpctfError
        It cannot be submitted.
    """
    trial = study.trial(number)
    if trial.record_file.exists():
        job_id = find_job(trial)
        if job_id is not None:
            return job_id
        trial.update_record(submitter=this_process(), host=os.uname().nodename)
    else:
        own = {"submitter": this_process(), "host": os.uname().nodename}
        make_trial(study, number, job_id=None, **own)

    plan = Plan.from_json(_text_of(trial))
    estimator = estimator_from(trial.read_record().get("request") or {}, trial.snapshot)
    may_submit()
    try:
        submit_plans([plan], [estimator], [trial])
    except SubmissionError:
        trial.script.unlink(missing_ok=True)  # so that nobody looks for a job of it
        raise
    trial.update_record(submitter=None)
    return str(trial.job_id)


def find_job(trial: RunFolder) -> str | None:
    """Return the id of a trial's job; None if there is none, and none will come.

    Raises
    ------
    NotYetKnown
        That shows later.
    """
    record = trial.read_record()
    if record.get("job_id") is not None:
        return str(record["job_id"])
    submitter = record.get("submitter")
    me = this_process()
    if submitter and submitter["host"] != me["host"]:
        # that driver has lost the study to this one, and no longer submits
        trial.update_record(submitter=None)
        record = trial.read_record()
    elif submitter and submitter["pid"] == me["pid"]:
        record = {**record, "submitter": None}  # it is not at work: this is
    fate = fates([(trial, record)])[trial.id]
    if fate.record.get("job_id") is not None:
        return str(fate.record["job_id"])
    if fate.lost:
        return None
    raise NotYetKnown(fate.reason)


def _text_of(trial: RunFolder) -> str:
    import json

    plan = dict(trial.plan)
    plan.pop("format", None)
    return json.dumps(plan)
