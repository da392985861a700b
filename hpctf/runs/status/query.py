"""The state of any number of runs, for one question to each scheduler."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from hpctf.errors import HpctfError, SchedulerError
from hpctf.run_folder.layout import TRIALS, RunFolder
from hpctf.run_folder.rank_states import read_job
from hpctf.runs.status.determine import Answer, determine, needs_asking, never_submitted, settled
from hpctf.runs.status.earlier import not_ended
from hpctf.runs.status.lost_submissions import fates, identity_of
from hpctf.runs.status.state import RunState, summary
from hpctf.scheduler.jobs import Identity, JobStatus, Scheduler, liveliest

_OF_A_RANK = (
    *("role", "index", "host", "state", "exit_code", "signal", "oom"),
    *("attempt", "restarts", "started", "ended"),
)
"""What of a rank's state `details` tells."""


_LONGEST_CHAIN = 50
"""Runs that follow each other whose ends are looked up at once, at most."""


class _Open(NamedTuple):
    """A run that is not settled yet, with its ``run.json``."""

    run: RunFolder
    record: dict[str, Any]

    @property
    def job_id(self) -> str | None:
        job_id = self.record.get("job_id")
        return None if job_id is None else str(job_id)

    @property
    def job_ids(self) -> list[str]:
        return job_ids(self.record)

    @property
    def identity(self) -> Identity:
        return identity_of(self.run, self.record)


def job_ids(record: dict[str, Any]) -> list[str]:
    """Return the ids of a run's jobs: of a study, whose agents may be several arrays, all of them;
    of any other run, one, or none before its submission."""
    first = record.get("job_id")
    return [] if first is None else [str(first), *record.get("more_jobs", [])]


def scheduler_of(run: RunFolder) -> Scheduler:
    """Return the scheduler that has a run's job."""
    return _scheduler(run.plan["scheduler"], [_Open(run, run.read_record())])


def ask_for(run: RunFolder, job_id: str) -> JobStatus | None:
    """Return what the scheduler knows of a run's very job, by that job's id alone.

    None if it has no such job (any more), or if the id is another job's now.

    Raises
    ------
    SchedulerError
        It could not be asked.
    """
    return scheduler_of(run).ask(job_id, identity_of(run, run.read_record()))


def look(run: RunFolder, since: float | None = None) -> RunState:
    """Return one run's status, as `statuses` does."""
    return statuses([run], since)[run.id]


def statuses(
    runs: Iterable[RunFolder], since: float | None = None, *, above: tuple[str, ...] = ()
) -> dict[str, RunState]:
    """Return the status of every run by id, asking each scheduler once for all of its jobs.

    Those who follow runs, and so ask again and again, say `since` when the answer must be (seconds
    since the epoch); they may get what another process has been told, and have to wait for it
    (`hpctf.scheduler.shared_answers`). Without, Slurm is asked now.

    A scheduler that cannot be asked is no error: what the run folders tell is returned, with the
    reason in ``RunState.away``, and nothing is settled.

    `above` are the ids of runs that wait for these, and are being looked at.
    """
    found: dict[str, RunState] = {}
    still_open: list[_Open] = []
    for run in runs:
        final = settled(run, run.plan)
        if final is not None:
            found[run.id] = final
        else:
            still_open.append(_Open(run, run.read_record()))
    for one, answer in _answers(_with_jobs(still_open, found), since):
        _keep_submission(one, answer.job)
        if answer.job is None or not answer.job.active:
            _settle_earlier(one, since, above)
        found[one.run.id] = determine(one.run, one.record, one.run.plan, answer)
    return found


def _settle_earlier(one: _Open, since: float | None, above: tuple[str, ...]) -> None:
    """Have the ends on record of those runs that a run waited for whose job is no longer there:
    they may be why it never started."""
    if read_job(one.run.path).started or one.run.id in above or len(above) >= _LONGEST_CHAIN:
        return
    earlier = [RunFolder(Path(known["folder"])) for known in not_ended(one.run.plan)]
    with contextlib.suppress(HpctfError, OSError):  # it is gone, or somebody else's
        statuses(earlier, since, above=(*above, one.run.id))


def _asked_alone(one: _Open, answer: Answer, since: float | None) -> Answer:
    """Return the scheduler's answer about one job: a list that lacks it tells nothing."""
    asked = _scheduler(one.run.plan["scheduler"], [one], since)
    try:
        job = liveliest(asked.ask(job_id, one.identity) for job_id in one.job_ids)
    except SchedulerError as error:
        return Answer(None, away=error.message)
    return answer._replace(job=job, gone=job is None)


def _keep_submission(one: _Open, job: JobStatus | None) -> None:
    """Put on record when Slurm took the job: names can be changed, and each requeueing changes
    this. Only its owner's hpctf writes a run's record."""
    if job is None or job.submitted in (None, one.record.get("job_submitted")):
        return
    with contextlib.suppress(OSError):
        if one.run.record_file.stat().st_uid == os.geteuid():
            one.run.update_record(job_submitted=job.submitted)


def queued_again(runs: Iterable[RunFolder]) -> dict[str, str]:
    """Return, by id, why runs that are settled may not be over: their jobs are in the queue.

    Slurm can start a job again that has ended, for as long as slurmctld remembers it (scontrol(1),
    requeue); ``final.json`` goes when it begins, not before. Local runs cannot. The job of a
    submission that was cut short may have come after the run was called lost.
    """
    asked = [_Open(run, run.read_record()) for run in runs]
    with_jobs = [one for one in asked if one.job_id and one.run.plan["scheduler"] != "local"]
    found = _late_jobs([one for one in asked if one.job_id is None])
    for one, answer in _answers(with_jobs):
        if answer.away:
            found[one.run.id] = f"the scheduler could not be asked: {answer.away}"
        elif answer.job is not None and answer.job.active:
            found[one.run.id] = f"its job {one.job_id} is in the queue again ({answer.job.state})"
    return found


def running_trials(study: RunFolder) -> str:
    """Return why a study that is settled is not over: trials of it that are jobs of their own go on
    without its driver. Empty if none does."""
    folders = [RunFolder(path.parent) for path in (study.path / TRIALS).glob("*/job.sbatch")]
    known = statuses(folders)
    left = [run.id for run in folders if not known[run.id].final]
    if not left:
        return ""
    more = f" and {len(left) - 1} more" if len(left) > 1 else ""
    return f"its trial {min(left)}{more} may still run (hpctf tune stop {study.id})"


def _late_jobs(orphans: list[_Open]) -> dict[str, str]:
    """Return, by id, what speaks against it that runs without a job id will never have a job."""
    if not orphans:
        return {}
    found = {}
    for run_id, fate in fates(orphans).items():
        job_id = fate.record.get("job_id")
        if job_id is not None:
            found[run_id] = f"its submission was cut short, but it has a job after all: {job_id}"
        elif fate.away:
            found[run_id] = f"the scheduler could not be asked: {fate.away}"
        elif not fate.lost:
            found[run_id] = fate.reason
    return found


def _with_jobs(opened: list[_Open], found: dict[str, RunState]) -> list[_Open]:
    """Return those that have a job, adopted ones included; the others' status goes to `found`."""
    orphans = [one for one in opened if one.job_id is None]
    if not orphans:
        return opened
    known = fates(orphans)
    with_jobs = []
    for one in opened:
        fate = known.get(one.run.id)
        if fate is None:
            with_jobs.append(one)
        elif fate.record.get("job_id") is not None:
            with_jobs.append(_Open(one.run, fate.record))
        else:
            found[one.run.id] = never_submitted(
                one.run, fate.record, one.run.plan, fate.reason, lost=fate.lost, away=fate.away
            )
    return with_jobs


def from_folder(run: RunFolder, away: str) -> RunState:
    """Return the status as the run's folder tells it; `away` is why the scheduler is not asked."""
    record = run.read_record()
    if record.get("job_id") is None:
        return never_submitted(run, record, run.plan, away, lost=False, away=away)
    return determine(run, record, run.plan, Answer(None, away))


def details(run: RunFolder, status: RunState) -> dict[str, Any]:
    """Return what `Run.get_details` does, for a status already known."""
    roles = [{name: getattr(rank, name) for name in _OF_A_RANK} for rank in status.ranks]
    return {**summary(run, run.read_record(), run.plan, status), "roles": roles}


def _answers(opened: Iterable[_Open], since: float | None = None) -> Iterator[tuple[_Open, Answer]]:
    """Yield what the schedulers say of runs with jobs, for one question to each; but a job that a
    list lacks is queried alone."""
    groups: dict[tuple[str, str | None], list[_Open]] = {}
    for one in opened:
        key = (one.run.plan["scheduler"], one.record.get("cluster"))
        groups.setdefault(key, []).append(one)
    for (scheduler, _), group in groups.items():
        for one, answer in zip(group, _ask(scheduler, group, since), strict=True):
            alone = needs_asking(one.run, answer)
            yield one, _asked_alone(one, answer, since) if alone else answer


def _ask(scheduler: str, group: list[_Open], since: float | None) -> list[Answer]:
    """Return what the scheduler says of each run's job."""
    identities = {job_id: one.identity for one in group for job_id in one.job_ids}
    asked = _scheduler(scheduler, group, since)
    try:
        jobs = asked.query(identities)
    except SchedulerError as error:
        return [Answer(None, away=error.message)] * len(group)
    unsure = bool(asked.accounting_away)
    return [Answer(liveliest(map(jobs.get, one.job_ids)), unsure=unsure) for one in group]


def _scheduler(kind: str, group: list[_Open], since: float | None = None) -> Scheduler:
    """Return the scheduler of runs that share one."""
    if kind == "local":
        from hpctf.scheduler.local import LocalProcesses

        jobs = {}
        for run_id, record in ((one.job_id, one.record) for one in group):
            if run_id is not None:
                jobs[run_id] = (record["job_host"], record["job_start_time"])
        return LocalProcesses(jobs)
    from hpctf.scheduler.slurm import Slurm

    cluster = group[0].record.get("cluster")
    if since is None:
        return Slurm(cluster)
    from hpctf.scheduler.shared_answers import of_this_person

    per_minute = min(one.run.plan["questions_per_minute"] for one in group)
    return Slurm(cluster, of_this_person(since, per_minute))
