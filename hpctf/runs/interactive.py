"""A run to work in by hand: its ranks wait, and a shell stands in the first one's place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from hpctf.runs.failure import failure_of
from hpctf.runs.status.wait import wait

if TYPE_CHECKING:
    from hpctf.planning.planner import Planned
    from hpctf.run_folder.layout import RunFolder
    from hpctf.run_folder.rank_states import RankState
    from hpctf.runs.status.state import RunState

_IDLE = ("sleep", "2147483647")
"""What ranks do meanwhile: every image has it, and SIGTERM ends it."""


class _HasBegun(Exception):
    """The first rank runs."""

    def __init__(self, rank: RankState) -> None:
        self.rank = rank


def idle(planned: Planned) -> Planned:
    """Return a plan whose ranks wait in place of running the script."""
    plan = planned.plan
    return replace(planned, plan=replace(plan, entry=replace(plan.entry, command=_IDLE)))


def wait_until_it_runs(run: RunFolder, on_change: Callable[[RunState, float], None]) -> RankState:
    """Return the first rank of a run once it runs; `on_change` is called at every look.

    Raises
    ------
    TrainingFailed
        The run has ended before.
    SchedulerError
        It will never start.
    """

    def look_out(status: RunState, waited: float) -> None:
        on_change(status, waited)
        if status.state == "Running" and status.ranks[0].state == "Running":
            raise _HasBegun(status.ranks[0])

    try:
        status = wait(run, look_out)
    except _HasBegun as begun:
        return begun.rank
    failure = failure_of(run, status)
    assert failure is not None  # it waits for longer than its job may
    raise failure
