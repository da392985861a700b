"""Waiting for a run: its folder is looked at often, the scheduler seldom."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hpctf.errors import SchedulerError
from hpctf.runs.state import Status, job_verdict

if TYPE_CHECKING:
    from hpctf.runs.logs import LogPrinter
    from hpctf.runs.run import Run

_LOOK_S = (0.2, 2.0)
_ASK_S = (2.0, 30.0)
"""Shortest and longest pause between looks at the run folder, and questions to the scheduler."""
_FINALIZING_S = 0.5


def wait(
    run: Run, on_change: Callable[[Status, float], None] | None, printer: LogPrinter | None
) -> Status:
    """Return the run's final status once there is one; see `Run.wait_for_completion`."""
    ask_at = began = time.monotonic()
    status: Status | None = None
    while True:
        now = time.monotonic()
        waited = now - began
        if now >= ask_at or (status and status.state != "Finalizing" and _has_verdict(run)):
            status = _ask(run, status)
            ask_at = now + _pause(status, waited)
        elif status is not None:
            status = _look(run, status)
        if printer is not None:
            printer.show(final=status is not None and status.final)
        if status is not None:
            if on_change:
                on_change(status, waited)
            if status.final:
                return status
        time.sleep(min(_LOOK_S[1], max(_LOOK_S[0], waited / 60)))


def _has_verdict(run: Run) -> bool:
    return job_verdict(run.folder) is not None


def _pause(status: Status | None, waited: float) -> float:
    """Return the seconds until the scheduler is asked again; a job about to go, it is soon."""
    if status is not None and status.state == "Finalizing":
        return _FINALIZING_S
    return min(_ASK_S[1], max(_ASK_S[0], waited / 10))


def _ask(run: Run, before: Status | None) -> Status | None:
    """Return the status; a scheduler that is away for a while is asked again, not despaired of."""
    try:
        return run.look()
    except SchedulerError:
        if before is None:
            raise
        return before


def _look(run: Run, before: Status) -> Status:
    """Return the status with the ranks as they are now, without asking the scheduler."""
    from hpctf.verdict import read_ranks

    ranks = tuple(read_ranks(run.folder.path, run.plan))
    # A requeued job's ranks have started before: only what is new tells that it runs.
    new = any(now.started != then.started for now, then in zip(ranks, before.ranks, strict=True))
    waiting = before.state in ("Queued", "Preparing")
    state = "Running" if new and waiting else before.state
    return before._replace(ranks=ranks, state=state)
