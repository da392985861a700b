"""Jobs without a scheduler: each is a controller process of submitit's local executor.

A job's id is the controller's process id. Since process ids come round again, its host and start
time are kept with the run, and a process that differs in either is not the job.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping

from hpctf.common.processes import start_time
from hpctf.errors import SchedulerError
from hpctf.scheduler.jobs import Identity, JobStatus


class LocalProcesses:
    """The processes of this machine; `identities` are (host, start time) of the controllers by job
    id, as noted at submission."""

    def __init__(self, identities: dict[str, tuple[str, str]]) -> None:
        self._identities = identities
        self.accounting_away = ""

    def require(self) -> None:
        """Do nothing: a machine can always look at its own processes."""

    def query(self, jobs: Mapping[str, Identity]) -> dict[str, JobStatus]:
        """Return as RUNNING the jobs whose controller is alive, or out of sight on another host."""
        asked = {job_id: self.ask(job_id, identity) for job_id, identity in jobs.items()}
        return {job_id: status for job_id, status in asked.items() if status is not None}

    def ask(self, job_id: str, identity: Identity) -> JobStatus | None:
        """Return the job as RUNNING, or None if its controller is not there any more."""
        runs = self._alive(job_id) or not self._here(job_id)
        return JobStatus(job_id, "", "RUNNING") if runs else None

    def cancel(self, job_id: str) -> None:
        """Ask a job's controller to end all of its ranks."""
        if not self._here(job_id):
            host = self._identities.get(job_id, ("an unknown host", ""))[0]
            raise SchedulerError(
                f"The run's processes are on {host}, and this is {os.uname().nodename}.",
                f"Cancel it there: ssh {host}.",
            )
        if self._alive(job_id):
            with contextlib.suppress(ProcessLookupError):  # it has ended this moment
                os.kill(int(job_id), signal.SIGTERM)

    def _here(self, job_id: str) -> bool:
        return self._identities.get(job_id, ("", ""))[0] == os.uname().nodename

    def _alive(self, job_id: str) -> bool:
        started = self._identities.get(job_id, ("", ""))[1]
        known = started is not None and job_id.isdecimal() and self._here(job_id)
        return known and start_time(int(job_id)) == started
