"""Slurm, asked through squeue and, where there is accounting, sacct: one call for all jobs."""

from __future__ import annotations

import os
import pwd
import re
import time
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING

from hpctf.errors import SchedulerError
from hpctf.scheduler import commands
from hpctf.scheduler.commands import fields
from hpctf.scheduler.jobs import Identity, JobStatus, liveliness

if TYPE_CHECKING:
    from hpctf.scheduler.shared_answers import SharedAnswers

_SQUEUE_S = 20.0
SACCT_S = 10.0
"""Seconds that a command may take. Left alone, squeue tries for 18 s to reach a slurmctld whose
host is up but does not answer (measured, 22.05), and longer if the host is down."""

_DISABLED = re.compile(
    r"^(?:sacct: )?(?:error: )?Slurm accounting storage is disabled\.?$", re.MULTILINE
)
"""What sacct says where there is no accounting at all (sacct.c), on a line of its own."""

_UNKNOWN_JOB = re.compile(
    r"^(?:\w+: )?(?:slurm_load_jobs? error: Invalid job id specified|Job \S+ not found)\.?$",
    re.MULTILINE,
)
"""What squeue and scontrol say of a job that slurmctld is sure not to have: the id is not any job's
(scontrol_load_job), or its array no longer has the task (scontrol, info_job.c)."""

SEPARATOR = "\x1f"
"""Between columns: names and commands may hold anything that can be typed."""

_COLUMNS = 7


def leader(job_id: str) -> str:
    """Return the id that names the whole job: ``4`` for ``4+1``, ``4.batch`` or ``4;cluster``.

    A job array's task keeps its own id (``4_2``).
    """
    return job_id.partition(";")[0].partition("+")[0].partition(".")[0]


class Slurm:
    """The Slurm of this machine, or another cluster of the same federation: its name for
    ``--clusters``, as sbatch --parsable gave it.

    With `answers` its questions are shared with the person's other processes that follow runs, and
    what is answered may be some seconds old.

    Every question raises `SchedulerError` if Slurm could not be asked, and so the answer is not
    known. That there is no accounting is an answer.
    """

    def __init__(self, cluster: str | None = None, answers: SharedAnswers | None = None) -> None:
        self._clusters = commands.clusters_option(cluster)
        self._run = answers.run if answers else commands.run
        self._is_shared = answers is not None
        self.accounting_away = ""
        """Why sacct could not be asked in the last query; empty if it was, or has nothing to say
        anywhere here."""

    def require(self) -> None:
        """Raise `SchedulerError` where there is no squeue."""
        commands.require("squeue")

    def query(self, jobs: Mapping[str, Identity]) -> dict[str, JobStatus]:
        """Return what Slurm knows of the jobs, by id; of a het job, what its leader does.

        One squeue for all; one sacct for those that squeue no longer knows, and for the cancelled
        ones, since it alone tells by whom. Where accounting is off or away, they are left out.
        """
        self.accounting_away = ""
        wanted = sorted(jobs)
        if not wanted:
            return {}
        known = _chosen(self._squeue(self._filter(jobs), "--array"), jobs)
        unsure = [i for i in wanted if i not in known or known[i].ending == "CANCELLED"]
        accounted = self._accounted(unsure, jobs) if unsure else None
        if accounted is not None:
            self._complete(known, unsure, accounted)
        return {job_id: known[job_id] for job_id in wanted if job_id in known}

    def _filter(self, jobs: Mapping[str, Identity]) -> list[str]:
        """Return squeue's option for jobs: a question that is shared is about all of one person's.

        For more ids than one word can hold there is none: of a repeated option the last one alone
        counts, and all jobs are fetched from slurmctld either way.
        """
        owners = {identity.uid for identity in jobs.values()}
        if self._is_shared and len(owners) == 1 and None not in owners:
            return [f"--user={owners.pop()}"]
        listed = commands.words(main_ids(sorted(jobs)))
        return [f"--jobs={listed[0]}"] if len(listed) == 1 else []

    def ask(self, job_id: str, identity: Identity) -> JobStatus | None:
        """Return what slurmctld knows of one job, queried by its id alone.

        None if it has no job of that id, or another one: the only sign, beside accounting's word,
        that a job without a state is over.
        """
        command = ["scontrol", *self._clusters, "--all", "show", "job", "--oneliner", job_id]
        try:
            said = self._run(command, _SQUEUE_S)
        except SchedulerError as error:
            if not _UNKNOWN_JOB.search(error.message.removeprefix("scontrol: ")):
                raise
            if identity.uid is not None and os.geteuid() not in (0, identity.uid):
                raise SchedulerError(
                    f"slurmctld shows no job {job_id}, but may hide other people's jobs "
                    "(PrivateData=jobs).",
                    "Ask the run's owner, or look at its folder.",
                ) from None
            return None
        jobs = [fields(line) for line in said.split("\n") if "JobState=" in line]
        rows = [_described(job) for job in jobs]
        if not rows:
            raise SchedulerError(
                f"scontrol did not tell of job {job_id}: {said.strip()[:200]!r}",
                "Try again in a minute, or ask scontrol show job yourself.",
            )
        # Of a het job the components come with their own ids, the leader first.
        status = next((row for row in rows if row.job_id == leader(job_id)), rows[0])
        if any(job.get("ArrayJobId") == job_id for job in jobs):
            status = max(rows, key=liveliness)
        return status._replace(job_id=job_id) if identity.is_of(status) else None

    @staticmethod
    def _complete(
        known: dict[str, JobStatus], unsure: list[str], accounted: dict[str, JobStatus]
    ) -> None:
        """Add to what squeue knows what sacct does: jobs that have gone, and who cancelled one. A
        job that is still running for sacct, though squeue does not know it, has been lost: slurmdbd
        was never told of its end (sacctmgr(1), runaway jobs)."""
        for job_id in unsure:
            status = accounted.get(job_id)
            if job_id in known:
                by, late = (status.by, status.active) if status else ("", True)
                known[job_id] = known[job_id]._replace(by=by, told_later=late)
            elif status is not None and not status.active:
                known[job_id] = status

    def find(self, wanted: Mapping[str, Identity], since: float) -> dict[str, JobStatus]:
        """Return the jobs that these identities are of, by the keys of `wanted`.

        Of a het job its leader's id, of a job array the array's own. No job looked for was
        submitted before `since`, in seconds since the epoch: sacct(1) wants it.
        """
        if not wanted:
            return {}
        uids = ",".join(sorted({str(one.uid) for one in wanted.values() if one.uid is not None}))
        found = _matching(self._squeue([f"--user={uids}"] if uids else []), wanted)
        if len(found) < len(wanted):  # that one list lacks a job is no sign that there is none
            found = {**_matching(self._all(), wanted), **found}
        if len(found) < len(wanted):
            start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since))
            whose = f"--uid={uids}" if uids else "--allusers"
            rows = self._sacct([f"--starttime={start}", whose])
            found = {**_matching(rows or iter(()), wanted), **found}
        return found

    def _all(self) -> Iterator[JobStatus]:
        """Return all jobs that slurmctld knows; of a het job or a job array each under its own."""
        command = ["scontrol", *self._clusters, "--all", "show", "job", "--oneliner"]
        for line in commands.run(command, _SQUEUE_S).split("\n"):
            if "JobState=" in line:
                job = fields(line)
                whole = job.get("HetJobId") or job.get("ArrayJobId") or job.get("JobId", "")
                yield _described(job)._replace(job_id=whole)

    def active(self, name: str) -> str | None:
        """Return the id of the job of that name which is still in the queue, the latest of them."""
        rows = [row for row in self._squeue([f"--name={name}"]) if row.active and row.name == name]
        latest = max(rows, key=lambda row: row.submitted or 0.0, default=None)
        return None if latest is None else _whole(latest.job_id)

    def active_tasks(self, job_ids: list[str]) -> int:
        """Return how many tasks of job arrays wait or run."""
        options = [f"--jobs={word}" for word in commands.words(job_ids)]
        return sum(row.active for row in self._squeue(options, "--array"))

    def waits_for(self, job_id: str) -> bool:
        """Whether a job that has not begun depends on another one."""
        command = ["squeue", *self._clusters, "--all", "--noheader", "--states=PENDING"]
        told = commands.run([*command, "--format=%E"], _SQUEUE_S)
        return re.search(rf":{job_id}\b", told) is not None

    def cancel(self, job_id: str) -> None:
        """Cancel a job with scancel; of a het job, every component."""
        commands.run(["scancel", *self._clusters, job_id], _SQUEUE_S)

    def _accounted(
        self, job_ids: list[str], jobs: Mapping[str, Identity]
    ) -> dict[str, JobStatus] | None:
        """Return what sacct knows of jobs, which may lag behind by seconds; None if nothing can
        be known from it, now or later."""
        try:
            rows = self._sacct([f"--jobs={word}" for word in commands.words(main_ids(job_ids))])
        except SchedulerError as error:
            self.accounting_away = error.message
            return None
        if rows is None:
            return None
        return _chosen(rows, {job_id: jobs[job_id] for job_id in job_ids})

    def _squeue(self, options: list[str], *more: str) -> Iterator[JobStatus]:
        """Return squeue's rows: of all partitions, those that are hidden as well."""
        command = ["squeue", *self._clusters, "--all", "--noheader", "--states=all", *more]
        columns = SEPARATOR.join(("%i", "%T", "%r", "%V", "%U", "%j", "%o"))
        try:
            return _rows(self._run([*command, f"--format={columns}", *options], _SQUEUE_S))
        except SchedulerError as error:
            if _UNKNOWN_JOB.search(error.message.removeprefix("squeue: ")):
                return iter(())
            raise

    def _sacct(self, options: list[str]) -> Iterator[JobStatus] | None:
        """Return sacct's rows, or None where there is no accounting."""
        columns = "JobID,State,Reason,Submit,UID,JobName,SubmitLine"
        command = sacct(self._clusters, columns, "--allocations", *options)
        try:
            return _rows(self._run(command, SACCT_S))
        except SchedulerError as error:
            if _DISABLED.search(error.message.removeprefix("sacct: ")):
                return None
            raise


def sacct(clusters: list[str], columns: str, *options: str) -> list[str]:
    """Return the command that prints columns of jobs and their steps, each start of a job; the
    options say of which jobs."""
    command = ["sacct", *clusters, *options, "--noheader", "--parsable2", "--duplicates"]
    return [*command, f"--delimiter={SEPARATOR}", f"--format={columns}"]


def main_ids(job_ids: Iterable[str]) -> list[str]:
    """Return the ids without array tasks: asking for the whole array costs the same."""
    return sorted({_whole(job_id) for job_id in job_ids})


def _whole(job_id: str) -> str:
    return leader(job_id).partition("_")[0]


def _rows(output: str) -> Iterator[JobStatus]:
    """Yield a job for each line that has all columns; a site's own words have none."""
    for line in output.split("\n"):
        columns = line.split(SEPARATOR)
        if len(columns) != _COLUMNS:
            continue
        job_id, state, reason, submitted, uid, name, command = columns
        yield row_of(job_id, name, state, reason, submitted, uid, command)


def _described(job: dict[str, str]) -> JobStatus:
    """Return a job from the fields of ``scontrol show job``."""
    keys = ("JobId", "JobName", "JobState", "Reason", "SubmitTime", "UserId", "Command")
    job_id, name, state, reason, submitted, user, command = (job.get(key, "") for key in keys)
    uid = user.rpartition("(")[2].rstrip(")")
    return row_of(job_id, name, state, reason, submitted, uid, command)


def row_of(
    job_id: str, name: str, state: str, reason: str, submitted: str, uid: str, command: str
) -> JobStatus:
    """Return a job from the words that Slurm has for each of these columns."""
    state, _, by = state.partition(" by ")  # sacct: "CANCELLED by 1000"
    number = int(uid) if uid.isdigit() else None
    at = _time(submitted)
    return JobStatus(job_id, name, state, reason, _user(by), False, at, number, command)


def _time(text: str) -> float | None:
    """Return Slurm's ``2026-11-29T07:56:45``, which is of this process's time zone."""
    try:
        return time.mktime(time.strptime(text, "%Y-%m-%dT%H:%M:%S"))
    except (ValueError, OverflowError):
        return None


def _chosen(rows: Iterator[JobStatus], identities: Mapping[str, Identity]) -> dict[str, JobStatus]:
    """Key the jobs that are meant by their leaders' ids; of one that has been requeued, which has
    several rows, the latest start. An array that is queried as one job is told by one task."""
    found: dict[str, JobStatus] = {}
    for row in rows:
        key = leader(row.job_id)
        identity = identities.get(key) or identities.get(_whole(key))
        if identity is None or not identity.is_of(row):
            continue
        if key not in found or _rank(row) >= _rank(found[key]):
            found[key] = row
    tasks = [key for key in found if key not in identities]
    for row in sorted([found.pop(key) for key in tasks], key=liveliness):
        found[_whole(row.job_id)] = row
    return {key: row._replace(job_id=key) for key, row in found.items()}


def _rank(row: JobStatus) -> tuple[bool, float]:
    """Return what orders the rows of one job: a het job's first component speaks for all, and what
    was submitted last for what was before."""
    return row.job_id.endswith("+0"), row.submitted or 0.0


def _matching(rows: Iterator[JobStatus], wanted: Mapping[str, Identity]) -> dict[str, JobStatus]:
    found: dict[str, JobStatus] = {}
    by_name = {name: key for key, identity in wanted.items() for name in identity.names}
    by_script = {identity.script: key for key, identity in wanted.items() if identity.script}
    for row in rows:
        key = by_name.get(row.name) or by_script.get(row.command.rpartition(" ")[2])
        if key is None or not wanted[key].is_of(row):
            continue
        if key not in found or (row.submitted or 0.0) >= (found[key].submitted or 0.0):
            found[key] = row._replace(job_id=_whole(row.job_id))
    return found


def _user(uid: str) -> str:
    if not uid.isdigit():
        return ""
    try:
        return pwd.getpwuid(int(uid)).pw_name
    except KeyError:
        return f"number {uid}"
