"""What Slurm's own daemons wrote into the job's log: how a job ended that Slurm has forgotten."""

from __future__ import annotations

import re

from hpctf.files import tail
from hpctf.runs.folder import RunFolder
from hpctf.scheduler.jobs import JobStatus

_START = "hpctf: start "
"""Begins the line that the batch script prints at each start of the job."""

_ENDED = re.compile(r"\*\*\* JOB \S+ ON \S+ CANCELLED AT \S+(?: DUE TO ([A-Z ]+))?")
"""slurmstepd's word on a batch script that it ends (slurm: src/slurmd/slurmstepd/req.c)."""

_STATES = {
    None: "CANCELLED",
    "TIME LIMIT": "TIMEOUT",
    "PREEMPTION": "PREEMPTED",
    "NODE FAILURE": "NODE_FAIL",
}
_KILLED = re.compile(r"Detected \d+ oom.kill event", re.IGNORECASE)


def from_log(folder: RunFolder, job_id: str) -> JobStatus | None:
    """Return how the latest start of a job ended, or None if its log does not tell.

    Only what slurmstepd says of the whole job counts: steps are also ended by srun.
    """
    lines = tail(folder.logs / "job.log", lines=500)
    starts = [number for number, line in enumerate(lines) if line.startswith(_START)]
    lines = lines[starts[-1] :] if starts else lines
    for line in lines:
        ended = _ENDED.search(line)
        if ended:
            cause = ended.group(1)
            state = _STATES.get(cause.strip() if cause else None)
            return JobStatus(job_id, "", state) if state else None
    if any(_KILLED.search(line) for line in lines):
        return JobStatus(job_id, "", "OUT_OF_MEMORY")
    return None
