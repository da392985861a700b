"""What is left of jobs that Slurm has forgotten: its daemons' words in their logs, and how the
build of an environment ended."""

from __future__ import annotations

import contextlib
import os
import re
from typing import Any

from hpctf.common.files import read_json, tail
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.ownership import end_of_log
from hpctf.scheduler.jobs import JobStatus

_START = "hpctf: start "
"""Begins the line that the batch script prints at each start of the job."""

_DAEMON = r"^(?:slurmstepd(?:-\S+)?: )?(?:error: )?"
_ENDED = _DAEMON + r"\*\*\* JOB \d+ ON \S+ CANCELLED AT \S+(?: DUE TO ([A-Z ]+))? \*\*\*"
"""slurmstepd's word on a batch script that it ends (slurm: src/slurmd/slurmstepd/req.c)."""

_STATES = {
    "": "CANCELLED",
    "TIME LIMIT": "TIMEOUT",
    "PREEMPTION": "PREEMPTED",
    "NODE FAILURE": "NODE_FAIL",
}
ENDED_BY = {
    "CANCELLED": "it was cancelled",
    "TIMEOUT": "it reached its time limit (environments.build_time)",
    "PREEMPTED": "it was pre-empted by another job",
    "NODE_FAIL": "a node failed",
    "OUT_OF_MEMORY": "it used more memory than it may",
}
"""Slurm's states of a build's job that was ended, in plain words."""

_KILLED = _DAEMON + r"(?i:Detected \d+ oom[_-]kill event)"


def from_log(folder: RunFolder, job_id: str) -> JobStatus | None:
    """Return how the latest start of a job ended, or None if its log does not tell.

    Only what slurmstepd says of the whole job counts: steps are also ended by srun.
    """
    return _of_lines(tail(folder.logs / "job.log", lines=500), job_id)


def awaits_environment(record: dict[str, Any], plan: dict[str, Any]) -> bool:
    """Whether a job of its own was to build a run's environment, which is not there yet."""
    return bool(record.get("build")) and not os.path.exists(plan["entry"]["python"])


def why_not_built(folder: RunFolder, record: dict[str, Any]) -> str:
    """Return how the job ended that was to build a run's environment; empty if that is not known.

    Its own last word comes first, then Slurm's in its log, then whatever it said last.
    """
    build = record["build"]
    ended: Any = None
    lines: list[str] = []
    with contextlib.suppress(OSError, ValueError):
        ended = read_json(os.path.join(build["folder"], "ended.json"))
    with contextlib.suppress(OSError):  # somebody else's, perhaps
        lines = end_of_log(folder.build_log, folder.path, 500)
    if isinstance(ended, dict) and "error" in ended:
        return str(ended["error"]).partition("\n")[0]
    status = _of_lines(lines, str(build["job_id"]))
    if status is not None:
        return ENDED_BY.get(status.state, status.state)
    return next((line for line in reversed(lines) if line.strip()), "")


def _of_lines(lines: list[str], job_id: str) -> JobStatus | None:
    starts = [number for number, line in enumerate(lines) if line.startswith(_START)]
    lines = lines[starts[-1] :] if starts else lines
    for ended in filter(None, (re.search(_ENDED, line) for line in lines)):
        state = _STATES.get((ended[1] or "").strip())
        return JobStatus(job_id, "", state) if state else None
    if any(re.search(_KILLED, line) for line in lines):
        return JobStatus(job_id, "", "OUT_OF_MEMORY")
    return None
