"""Slurm, asked through squeue and, where there is accounting, sacct: one call for all jobs."""

from __future__ import annotations

import pwd
import re
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from hpctf.errors import SchedulerError
from hpctf.scheduler import commands
from hpctf.scheduler.jobs import ACTIVE, JobStatus, Names

_SQUEUE_S = 20.0
_SACCT_S = 10.0
"""Seconds that a command may take. Left alone, squeue tries for 18 s to reach a slurmctld whose
host is up but does not answer (measured, 22.05), and longer if the host is down."""

_DISABLED = "accounting storage is disabled"
"""What sacct says where there is no accounting at all (sacct.c)."""


class _Row(NamedTuple):
    job_id: str
    state: str
    reason: str
    submitted: str
    name: str

    @property
    def rank(self) -> tuple[bool, str]:
        """What orders the rows of one job: a het job's first component speaks for all, and what
        was submitted last for what was before."""
        return self.job_id.endswith("+0"), self.submitted


def leader(job_id: str) -> str:
    """Return the id that names the whole job: ``4`` for ``4+1``, ``4.batch`` or ``4;cluster``.

    A job array's task keeps its own id (``4_2``).
    """
    return job_id.partition(";")[0].partition("+")[0].partition(".")[0]


class Slurm:
    """The Slurm of this machine, or another cluster of the same federation.

    Parameters
    ----------
    cluster
        Name for ``--clusters``, as sbatch --parsable gave it; None is the local one.
    """

    def __init__(self, cluster: str | None = None) -> None:
        self._clusters = commands.clusters_option(cluster)
        self.accounting_away = ""
        """Why sacct could not be asked in the last query; empty if it was, or has nothing to say
        anywhere here."""

    def require(self) -> None:
        """Raise `SchedulerError` where there is no squeue."""
        commands.require("squeue")

    def query(self, job_ids: Iterable[str], names: Names | None = None) -> dict[str, JobStatus]:
        """Return what Slurm knows of the jobs, by id; of a het job, what its leader does.

        One squeue for all; one sacct for those that squeue no longer knows, and for the cancelled
        ones, since it alone tells by whom. Where accounting is off or away, they are left out.

        Raises
        ------
        SchedulerError
            squeue could not be asked.
        """
        self.accounting_away = ""
        wanted = sorted(set(job_ids))
        if not wanted:
            return {}
        known = _statuses(self._squeue(_jobs_option(wanted), "--array"), names)
        unsure = [i for i in wanted if i not in known or known[i].state == "CANCELLED"]
        accounted = self._accounted(unsure, names) if unsure else None
        if accounted is not None:
            self._complete(known, unsure, accounted)
        return {job_id: known[job_id] for job_id in wanted if job_id in known}

    @staticmethod
    def _complete(
        known: dict[str, JobStatus], unsure: list[str], accounted: dict[str, JobStatus]
    ) -> None:
        """Add to what squeue knows what sacct does: jobs that have gone, and who cancelled one.

        A job that is still running for sacct, though squeue does not know it, has been lost:
        slurmdbd was never told of its end (sacctmgr(1), runaway jobs).
        """
        for job_id in unsure:
            status = accounted.get(job_id)
            if job_id in known:
                by, late = (status.by, status.active) if status else ("", True)
                known[job_id] = known[job_id]._replace(by=by, told_later=late)
            elif status is not None and not status.active:
                known[job_id] = status

    def find(self, names: Iterable[str], since: float) -> dict[str, str]:
        """Return the ids of the jobs that have these names, of which each is one job's alone.

        Of a het job its leader's id, of a job array the array's own.

        Parameters
        ----------
        since
            Seconds since the epoch: no job looked for was submitted before. sacct(1) wants it.

        Raises
        ------
        SchedulerError
            squeue or sacct could not be asked, and so the answer is not known. That there is no
            accounting is an answer.
        """
        wanted = sorted(set(names))
        if not wanted:
            return {}
        listed = commands.words(wanted)
        found = _ids(self._squeue([f"--name={listed[0]}"] if len(listed) == 1 else []))
        missing = [name for name in wanted if name not in found]
        if missing:
            start = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since))
            options = [f"--name={word}" for word in commands.words(missing)]
            rows = self._sacct([f"--starttime={start}", "--allusers", *options])
            found = {**_ids(rows or iter(())), **found}
        return {name: found[name] for name in wanted if name in found}

    def active(self, name: str) -> str | None:
        """Return the id of the job of that name which is still in the queue, the latest of them.

        Raises
        ------
        SchedulerError
            squeue could not be asked.
        """
        rows = (row for row in self._squeue([f"--name={name}"]) if row.state in ACTIVE)
        return _ids(iter(rows)).get(name)

    def waits_for(self, job_id: str) -> bool:
        """Whether a job that has not begun depends on another one.

        Raises
        ------
        SchedulerError
            squeue could not be asked.
        """
        command = ["squeue", *self._clusters, "--noheader", "--states=PENDING", "--format=%E"]
        told = commands.run(command, _SQUEUE_S)
        return re.search(rf":{job_id}\b", told) is not None

    def cancel(self, job_id: str) -> None:
        """Cancel a job with scancel; of a het job, every component."""
        commands.run(["scancel", *self._clusters, job_id], _SQUEUE_S)

    def _accounted(self, job_ids: list[str], names: Names | None) -> dict[str, JobStatus] | None:
        """Return what sacct knows of jobs, which may lag behind by seconds; None if nothing can
        be known from it, now or later."""
        try:
            rows = self._sacct([f"--jobs={word}" for word in commands.words(_main_ids(job_ids))])
        except SchedulerError as error:
            self.accounting_away = error.message
            return None
        if rows is None:
            return None
        told = _statuses(rows, names)
        return {job_id: told[job_id] for job_id in job_ids if job_id in told}

    def _squeue(self, options: list[str], *more: str) -> Iterator[_Row]:
        command = ["squeue", *self._clusters, "--noheader", "--states=all", *more]
        command += ["--format=%i|%T|%r|%V|%j", *options]
        try:
            return _rows(commands.run(command, _SQUEUE_S))
        except SchedulerError as error:
            if "Invalid job id specified" in error.message:
                return iter(())
            raise

    def _sacct(self, options: list[str]) -> Iterator[_Row] | None:
        """Return sacct's rows, or None where there is no accounting."""
        command = ["sacct", *self._clusters, "--noheader", "--parsable2", "--allocations"]
        command += ["--duplicates", "--format=JobID,State,Reason,Submit,JobName", *options]
        try:
            return _rows(commands.run(command, _SACCT_S))
        except SchedulerError as error:
            if _DISABLED in error.message:
                return None
            raise


def _jobs_option(job_ids: list[str]) -> list[str]:
    """Return squeue's filter, or none for more ids than one word can hold: of a repeated option
    the last one alone counts, and all jobs are fetched from slurmctld either way."""
    listed = commands.words(_main_ids(job_ids))
    return [f"--jobs={listed[0]}"] if len(listed) == 1 else []


def _main_ids(job_ids: list[str]) -> list[str]:
    """Return the ids without array tasks: asking for the whole array costs the same."""
    return sorted({job_id.partition("_")[0] for job_id in job_ids})


def _rows(output: str) -> Iterator[_Row]:
    fields = (line.split("|", 4) for line in output.splitlines())
    return (_Row(*row) for row in fields if len(row) == len(_Row._fields))


def _statuses(rows: Iterator[_Row], names: Names | None) -> dict[str, JobStatus]:
    """Key each job by its leader's id, without those that have a name they should not have."""
    found: dict[str, _Row] = {}
    for row in rows:
        key = leader(row.job_id)
        if names is not None and row.name not in names.get(key, ()):
            continue
        if key not in found or row.rank >= found[key].rank:
            found[key] = row
    return {key: _status(key, row) for key, row in found.items()}


def _status(key: str, row: _Row) -> JobStatus:
    state, _, uid = row.state.partition(" by ")  # sacct: "CANCELLED by 1000"
    return JobStatus(key, row.name, state, row.reason, _user(uid))


def _user(uid: str) -> str:
    if not uid.isdigit():
        return ""
    try:
        return pwd.getpwuid(int(uid)).pw_name
    except KeyError:
        return f"number {uid}"


def _ids(rows: Iterator[_Row]) -> dict[str, str]:
    """Return the leader's or the array's id by name, of what was submitted last."""
    found: dict[str, _Row] = {}
    for row in rows:
        if row.name not in found or row.submitted >= found[row.name].submitted:
            found[row.name] = row
    return {name: leader(row.job_id).partition("_")[0] for name, row in found.items()}
