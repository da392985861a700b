"""The job's verdict: the exit code of the first rank that failed of itself, on record and told."""

from __future__ import annotations

import os
import sys
import time

from hpctf.files import append_record, read_json
from hpctf.verdict import first_failure, read_ranks, tell_failure

JOB_STATE = "job.jsonl"
NO_RECORD = 1


def conclude(run_folder: str, launcher_status: int) -> int:
    """Return the job's exit code, and record it.

    Parameters
    ----------
    launcher_status
        What srun or mpirun returned. The ranks' own records come first: a launcher reports 143
        for a rank that it ended after another one's exit code 7 (measured).
    """
    plan = read_json(os.path.join(run_folder, "plan.json"))
    ranks = read_ranks(run_folder, plan)
    failure = first_failure(ranks)
    silent = [rank.name for rank in ranks if rank.state not in ("Completed", "Failed")]
    code = 0
    if failure:
        code = failure.status
        print(tell_failure(failure, run_folder), file=sys.stderr)
    elif silent:
        code = launcher_status or NO_RECORD
        names = ", ".join(silent[:5]) + (" ..." if len(silent) > 5 else "")
        words = (
            f"hpctf: the launcher ended with status {launcher_status}, and {names} left no record"
        )
        print(words, file=sys.stderr)
    append_record(
        os.path.join(run_folder, "state", JOB_STATE),
        {"event": "ended", "time": time.time(), "exit_code": code},
    )
    return code
