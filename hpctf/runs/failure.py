"""The error that tells of a run which did not complete."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from hpctf.common.files import tail
from hpctf.errors import TrainingFailed
from hpctf.run_folder.failure_lines import LOOK_BACK, failure_lines
from hpctf.run_folder.ownership import end_of_log
from hpctf.run_folder.rank_states import first_failure, tell_failure

if TYPE_CHECKING:
    from hpctf.run_folder.layout import RunFolder
    from hpctf.runs.status.state import RunState

_ENDINGS = {"Failed": "failed", "Canceled": "was cancelled"}


def failure_of(run: RunFolder, status: RunState) -> TrainingFailed | None:
    """Return the error with the whole story of a run; None if the status is Completed."""
    if status.state == "Completed":
        return None
    from hpctf.runs.explain.why import says_more

    hint = f"hpctf why {run.id} says more." if says_more(run, status) else None
    failure = first_failure(status.ranks)
    ending = f"Run {run.id} {_ENDINGS.get(status.state, status.state)}"
    if failure and failure.asked is None and status.state == "Failed":
        return TrainingFailed(f"{ending}: {tell_failure(failure, run.path, status.ranks)}", hint)
    message = f"{ending}: {status.reason}."
    log, last = run.job_log, tail(run.job_log, LOOK_BACK)
    if not last:
        with contextlib.suppress(OSError):
            log = run.build_log
            last = end_of_log(log, run.path, LOOK_BACK)
    if last and status.state == "Failed":
        said = "\n".join(f"  {line}" for line in failure_lines(last, 10))
        message += f"\nFrom {log}:\n{said}"
    return TrainingFailed(message, hint)
