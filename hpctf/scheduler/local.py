"""Jobs without a scheduler: each is a controller process of submitit's local executor.

A job's id is the controller's process id. Since process ids come round again, its host and start
time are kept with the run, and a process that differs in either is not the job.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

from hpctf.errors import SchedulerError
from hpctf.processes import start_time
from hpctf.scheduler.jobs import JobStatus, Names


class LocalProcesses:
    """The processes of this machine.

    Parameters
    ----------
    identities
        (host, start time) of the controllers by job id, as noted at submission.
    """

    def __init__(self, identities: dict[str, tuple[str, str]]) -> None:
        self._identities = identities
        self.accounting_away = ""

    def require(self) -> None:
        """Do nothing: a machine can always look at its own processes."""

    def query(self, job_ids: Iterable[str], names: Names | None = None) -> dict[str, JobStatus]:
        """Return as RUNNING the jobs whose controller is alive, or out of sight on another host."""
        return {
            job_id: JobStatus(job_id, "", "RUNNING")
            for job_id in job_ids
            if self._alive(job_id) or not self._here(job_id)
        }

    def cancel(self, job_id: str) -> None:
        """Ask a job's controller to end all of its ranks."""
        if not self._here(job_id):
            host = self._identities.get(job_id, ("an unknown host", ""))[0]
            raise SchedulerError(
                f"The run's processes are on {host}, and this is {os.uname().nodename}.",
                f"Cancel it there: ssh {host}.",
            )
        if self._alive(job_id):
            os.kill(int(job_id), signal.SIGTERM)

    def _here(self, job_id: str) -> bool:
        return self._identities.get(job_id, ("", ""))[0] == os.uname().nodename

    def _alive(self, job_id: str) -> bool:
        started = self._identities.get(job_id, ("", ""))[1]
        return self._here(job_id) and start_time(int(job_id)) == started
