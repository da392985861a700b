"""How a trial ends, and what is put on record of it in its folder."""

from __future__ import annotations

from typing import NamedTuple

from hpctf.common.files import tail
from hpctf.node.conclude import INTERRUPTED
from hpctf.run_folder.failure_lines import LOOK_BACK, headline
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.rank_states import read_ranks
from hpctf.runs.status.determine import settle
from hpctf.runs.status.state import RunState

RETURNED = "returned"
SUPERSEDED = "superseded"

_LONGEST_WORDS = 300
"""Characters of a log's line that a reason holds at most."""


class Ending(NamedTuple):
    """How a trial ends, or has ended: a state of the ledger, `RETURNED` for one that is to go on
    later, or `SUPERSEDED` for one that another process has."""

    state: str
    reason: str = ""


def settle_trial(
    trial: RunFolder, state: str, reason: str, code: int | None, attempt: int | None = None
) -> None:
    """Settle a trial in a state of a run; the ranks are those of its start `attempt`."""
    plan = trial.plan
    ranks = tuple(read_ranks(trial.path, plan, attempt))
    settle(trial, trial.read_record(), plan, RunState(state, reason, code, ranks))


def settle_waiting(trial: RunFolder, reason: str) -> None:
    """Settle a trial that was handed back, and that nobody goes on with."""
    settle_trial(trial, "Canceled", reason, INTERRUPTED)


def last_words(trial: RunFolder, rank: str) -> str:
    """Return ``: ValueError: no such data``, the line of a rank's log that says why it failed."""
    line = headline(tail(trial.logs / f"{rank}.log", LOOK_BACK))
    return f": {line[:_LONGEST_WORDS]}" if line else ""
