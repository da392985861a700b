"""Runs whose submission was cut short: has a scheduler taken the job, and under which id?

hpctf may be killed at any point of a submission, also after sbatch has handed the job over, or the
local launcher has begun. A job's name is its run's id, and its script lies in the run's folder: by
these it is found, or is known not to be there.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, NamedTuple

from hpctf.common.processes import is_running, start_time
from hpctf.errors import SchedulerError
from hpctf.run_folder.rank_states import read_job
from hpctf.scheduler.jobs import Identity

if TYPE_CHECKING:
    from hpctf.run_folder.layout import RunFolder
    from hpctf.scheduler.jobs import JobStatus

LATE_S = 60.0
"""Seconds after hpctf's last sign of life during which what it has begun may still make a job."""

UNSEEN_S = 3600.0
"""The same for an hpctf on another machine, whose processes cannot be seen from here."""

_BEFORE_S = 3600.0
"""How much earlier than the submission sacct is asked from: clocks differ."""

LOST = "its submission was cut short before a scheduler took the job: submit it again"
COMING = "it is being submitted"
HIDDEN = "whether Slurm took its job is not shown to others (PrivateData=jobs)"
SOUGHT = "its submission was cut short; whether Slurm took the job shows within a minute"


class Fate(NamedTuple):
    """What became of a submission: the run's record now, or why there is no job; ``lost`` says that
    there never will be one."""

    record: dict[str, Any]
    reason: str = ""
    lost: bool = False
    away: str = ""


class _Sought(NamedTuple):
    """A run that Slurm may have a job of, and whether one that nobody knows may still come."""

    run: RunFolder
    record: dict[str, Any]
    may_come: bool


def identity_of(run: RunFolder, record: dict[str, Any]) -> Identity:
    """Return what tells a run's job from others of its id.

    A job array has the name and the script of its first run; what a record lacks does not count.
    """
    names = frozenset({run.id, record.get("job_name") or run.id})
    script = record.get("job_script") or str(run.script)
    return Identity(record.get("uid"), record.get("job_submitted"), names, script)


def this_process() -> dict[str, Any]:
    """Return what ``run.json`` keeps of the process that submits."""
    pid = os.getpid()
    return {"host": os.uname().nodename, "pid": pid, "start_time": start_time(pid)}


def fates(runs: Iterable[tuple[RunFolder, dict[str, Any]]]) -> dict[str, Fate]:
    """Return what became of runs without a job id, by run id; an adopted job goes on record.

    Slurm is asked once for all of those that it may have taken.
    """
    known: dict[str, Fate] = {}
    sought: list[_Sought] = []
    for run, record in runs:
        started = _from_own_record(run, record)
        if started is not None:
            known[run.id] = started
        elif _submitting(record):
            known[run.id] = Fate(record, COMING)
        elif run.plan["scheduler"] != "local" and os.path.lexists(run.script):
            # Seen before Slurm is asked: the job of an sbatch that ends meanwhile is Slurm's.
            sought.append(_Sought(run, record, _may_come(run, record)))
        elif _may_come(run, record):
            known[run.id] = Fate(record, COMING)
        else:
            known[run.id] = Fate(record, LOST, lost=True)
    return {**known, **_from_slurm(sought)}


def _from_own_record(run: RunFolder, record: dict[str, Any]) -> Fate | None:
    """Adopt a job that has started: it has put its id on record itself."""
    job = read_job(run.path)
    if job.job_id is None:
        return None
    if run.plan["scheduler"] == "local":
        return _adopt(run, record, job.job_id, job_host=job.host, job_start_time=job.start_time)
    if len(_clusters(record)) > 1:
        return None  # whose id it is, only the job's name tells
    return _adopt(run, record, job.job_id)


def _submitting(record: dict[str, Any]) -> bool:
    """Whether the process that submits is at work still, here."""
    submitter = record.get("submitter")
    if submitter is None or not _is_here(record):
        return False
    return start_time(int(submitter["pid"])) == (submitter.get("start_time") or "")


def _is_here(record: dict[str, Any]) -> bool:
    return (record.get("submitter") or record).get("host") == os.uname().nodename


def _may_come(run: RunFolder, record: dict[str, Any]) -> bool:
    """Whether a job that nobody knows yet may still come: of a process that is at work here, or of
    one that cannot be seen and wrote to the folder not long ago."""
    if _is_here(record) and _is_beginning(run, record):
        return True
    written = [os.lstat(path).st_mtime for path in (run.path, run.record_file)]
    with contextlib.suppress(FileNotFoundError):
        written.append(os.lstat(run.script).st_mtime)
    silent_s = time.time() - max(written)
    if record.get("submitter") and not _is_here(record):
        return silent_s < UNSEEN_S
    return silent_s < LATE_S and _has_begun(run)


def _is_beginning(run: RunFolder, record: dict[str, Any]) -> bool:
    """Whether an sbatch or a local launcher of the run is at work, which has no job to show yet."""
    if run.plan["scheduler"] == "local":
        return is_running("local", str(run.path))
    return is_running("--parsable", record.get("job_script") or str(run.script))


def _has_begun(run: RunFolder) -> bool:
    """Whether the submission got as far as to begin an sbatch or a local launcher."""
    if run.plan["scheduler"] == "local":
        from hpctf.submission.payload import PAYLOAD

        return os.path.lexists(run.submitit / PAYLOAD)
    return os.path.lexists(run.script)


def _from_slurm(sought: list[_Sought]) -> dict[str, Fate]:
    if not sought:
        return {}
    from hpctf.scheduler.slurm import Slurm

    since = min(one.record.get("submitted") or 0.0 for one in sought) - _BEFORE_S
    wanted: dict[str | None, dict[str, Identity]] = {}
    for run, record, _ in sought:
        for cluster in _clusters(record):
            wanted.setdefault(cluster, {})[run.id] = identity_of(run, record)
    found: dict[str, tuple[JobStatus, str | None]] = {}
    away: dict[str | None, str] = {}
    for cluster, identities in wanted.items():
        try:
            jobs = Slurm(cluster).find(identities, since)
        except SchedulerError as error:
            away[cluster] = error.message
        else:
            found.update({run_id: (job, cluster) for run_id, job in jobs.items()})
    fates = {}
    for one in sought:
        why = next((away[cluster] for cluster in _clusters(one.record) if cluster in away), "")
        fates[one.run.id] = _fate(one, found.get(one.run.id), why)
    return fates


def _clusters(record: dict[str, Any]) -> list[str | None]:
    """Return the clusters that a submission may have gone to; None is this machine's own."""
    clusters = record.get("cluster")
    return [*str(clusters).split(",")] if clusters else [None]


def _fate(sought: _Sought, found: tuple[JobStatus, str | None] | None, away: str) -> Fate:
    """Return a run's fate from the job found and its cluster, or why one could not be asked."""
    run, record, may_come = sought
    if found is not None:
        job, cluster = found
        index = record.get("array_index")
        whole = job.job_id if index is None else f"{job.job_id}_{index}"
        return _adopt(run, record, whole, cluster=cluster, job_submitted=job.submitted)
    if away:
        return Fate(record, f"{SOUGHT}: {away}", away=away)
    if may_come:
        return Fate(record, SOUGHT)
    if record.get("uid", os.geteuid()) != os.geteuid() != 0:
        return Fate(record, HIDDEN, away=HIDDEN)
    return Fate(record, LOST, lost=True)


def _adopt(run: RunFolder, record: dict[str, Any], job_id: str, **more: Any) -> Fate:
    adopted = {**record, "job_id": job_id, **more}
    with contextlib.suppress(OSError):  # somebody who may look, but not write
        run.update_record(job_id=job_id, **more)
        run.final.unlink(missing_ok=True)  # it said that there would never be a job
    return Fate(adopted)
