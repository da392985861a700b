"""How a service is: what its servers say, and what becomes of their jobs and processes."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from hpctf.common.processes import start_time
from hpctf.errors import SchedulerError
from hpctf.scheduler import states
from hpctf.scheduler.jobs import Identity, JobStatus
from hpctf.scheduler.shared_answers import SharedAnswers, of_this_person
from hpctf.scheduler.slurm import Slurm
from hpctf.serving.instance import ServerState, current, read_state
from hpctf.serving.launch import Job, read_job
from hpctf.serving.record import ServiceFolder

State = Literal["waiting", "starting", "ready", "failed", "stopped", "gone", "unknown"]

_STOPS_S = 30.0
_UNSEEN_S = 60.0
"""Seconds for which Slurm may not know a job yet that sbatch has just handed over."""


@dataclass(frozen=True)
class Status:
    """How a service is: its state, that of the server that answers or is to, and the latest one's
    job or process."""

    state: State
    server: ServerState
    job: Job | None
    folder: Path | None


_Known = Mapping[tuple[str | None, str], str]
"""States of jobs by their cluster and id: ``waiting``, ``running``, ``over`` or ``unknown``."""


def statuses_of(services: Sequence[ServiceFolder]) -> list[Status]:
    """Return how services are, as `status_of` does. Each cluster's Slurm is asked once for all."""
    jobs: dict[str | None, dict[str, Job]] = {}
    for service in services:
        for folder in {current(service.path), *service.servers()[-1:]} - {None}:
            assert folder is not None
            job = read_job(folder)
            has_ended = read_state(folder).state in ("failed", "stopped")
            if job is not None and job.job_id is not None and not has_ended:
                jobs.setdefault(job.cluster, {})[job.job_id] = job
    known: dict[tuple[str | None, str], str] = {}
    for cluster, of_cluster in jobs.items():
        states_of_them = _asked(cluster, of_cluster)
        known.update({(cluster, job_id): state for job_id, state in states_of_them.items()})
    return [status_of(service, known) for service in services]


def status_of(service: ServiceFolder, known: _Known = MappingProxyType({})) -> Status:
    """Return how a service is. Of several servers the one counts that answers, or else the latest.

    A server that says that it is ready, and whose process or job is over, is ``gone``. Slurm is
    asked for jobs that are not `known`.
    """
    answering = current(service.path)
    if answering is not None:
        found = _of_server(answering, known)
        if found.state == "ready":
            return found
    servers = service.servers()
    if not servers:
        return Status("gone", ServerState(), None, None)
    return _of_server(servers[-1], known)


def of_latest(service: ServiceFolder) -> Status:
    """Return how the latest server of a service is, whether it answers already or not. For those
    who ask again and again: what Slurm says of its job may be some seconds old
    (`hpctf.scheduler.shared_answers`), but is no older than what the server says."""
    folder = service.servers()[-1]
    job, said = read_job(folder), read_state(folder)
    since = max(min(said.since, time.time()), 0.0 if job is None else job.submitted)
    return _of_server(folder, answers=of_this_person(since))


def ending_of(service: ServiceFolder) -> str | None:
    """Return how a service has ended as far as its folder and this machine tell: Slurm is not
    asked. None if one of its servers may go on."""
    answering = current(service.path)
    ending = "gone"
    for folder in ({answering} if answering else set()) | set(service.servers()[-1:]):
        said, job = read_state(folder).state, read_job(folder)
        if said in ("failed", "stopped"):
            ending = said
        elif job is None or job.pid is None or job.host != os.uname().nodename or _runs(job):
            return None
    return ending


def _of_server(
    folder: Path, known: _Known = MappingProxyType({}), answers: SharedAnswers | None = None
) -> Status:
    said, job = read_state(folder), read_job(folder)
    if said.state in ("failed", "stopped"):
        return Status(said.state, said, job, folder)  # type: ignore[arg-type]
    state = _of_job(job, known, answers)
    if state == "running":
        state = "ready" if said.state == "ready" else "starting"
    elif state == "over":
        again = read_state(folder)  # it may have said so as it ended
        state = again.state if again.state in ("failed", "stopped") else "gone"
        said = again
    return Status(state, said, job, folder)  # type: ignore[arg-type]


def _of_job(
    job: Job | None, known: _Known = MappingProxyType({}), answers: SharedAnswers | None = None
) -> str:
    """Return ``waiting``, ``running``, ``over`` or ``unknown``."""
    if job is None:
        return "over"
    if job.job_id is None:
        if job.host != os.uname().nodename:
            return "unknown"
        return "running" if _runs(job) else "over"
    found = known.get((job.cluster, job.job_id))
    return found or _asked(job.cluster, {job.job_id: job}, answers)[job.job_id]


def _asked(
    cluster: str | None, jobs: Mapping[str, Job], answers: SharedAnswers | None = None
) -> dict[str, str]:
    """Return the states of jobs by their ids, from Slurm."""
    try:
        rows = Slurm(cluster, answers).query(
            {job_id: _identity(job) for job_id, job in jobs.items()}
        )
    except SchedulerError:
        return dict.fromkeys(jobs, "unknown")
    return {job_id: _of_row(job, rows.get(job_id)) for job_id, job in jobs.items()}


def _of_row(job: Job, row: JobStatus | None) -> str:
    if row is None:
        return "waiting" if time.time() - job.submitted < _UNSEEN_S else "over"
    if not row.active:
        return "over"
    return "waiting" if states.kind(row.state) == states.QUEUED else "running"


def _identity(job: Job) -> Identity:
    return Identity(os.geteuid(), None, frozenset({job.name}))


def _runs(job: Job) -> bool:
    return job.pid is not None and start_time(job.pid) == job.start_time is not None


def stop(service: ServiceFolder) -> None:
    """End all servers of a service: none of them is left when this returns.

    Raises
    ------
    SchedulerError
        Slurm could not be asked.
    """
    for folder in service.servers():
        job = read_job(folder)
        if job is None or read_state(folder).state in ("failed", "stopped"):
            continue
        if job.job_id is not None:
            if _of_job(job) in ("waiting", "running", "unknown"):
                Slurm(job.cluster).cancel(job.job_id)
        elif _runs(job):
            _end(job)
        _note_stopped(folder)


def _note_stopped(folder: Path) -> None:
    """Say for a server that did not get to it that it has ended."""
    said = read_state(folder)
    if said.state not in ("failed", "stopped"):
        replace(said, state="stopped", since=time.time()).write(folder)


def _end(job: Job) -> None:
    assert job.pid is not None
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.kill(job.pid, number)
        deadline = time.monotonic() + _STOPS_S
        while _runs(job):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        else:
            return
