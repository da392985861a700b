"""What the ranks' state files say: who runs, who ended how, and who failed first.

The nodes and the login side read the same files through this one module.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from hpctf.files import read_records, tail

if TYPE_CHECKING:
    from collections.abc import Iterable

SIGNAL_BASE = 128


@dataclass(frozen=True)
class RankState:
    """One rank, as its state file tells.

    ``state`` is ``NotStarted``, ``Running``, ``Completed`` or ``Failed``; ``asked`` says who asked
    it to end (see `hpctf.node.process.Ended`); times are seconds since the epoch.
    """

    role: str
    index: int
    state: str = "NotStarted"
    host: str | None = None
    exit_code: int | None = None
    signal: int | None = None
    asked: str | None = None
    started: float | None = None
    ended: float | None = None

    @property
    def name(self) -> str:
        """``worker-0`` and so on."""
        return f"{self.role}-{self.index}"

    @property
    def status(self) -> int:
        """Exit status in the shell's sense: 128 + the signal's number for a signal."""
        if self.exit_code is not None:
            return self.exit_code
        return SIGNAL_BASE + self.signal if self.signal else 0


def read_ranks(run_folder: str | os.PathLike[str], plan: dict[str, Any]) -> list[RankState]:
    """Return the state of every rank of a run, in rank order."""
    folder = os.path.join(run_folder, "state")
    return [_read_rank(folder, role, index) for role, index in ranks_of(plan)]


def ranks_of(plan: dict[str, Any]) -> list[tuple[str, int]]:
    """Return (role name, index) of every rank of ``plan.json``, in rank order."""
    return [(role["name"], index) for role in plan["roles"] for index in range(role["count"])]


def _read_rank(folder: str, role: str, index: int) -> RankState:
    state = RankState(role, index)
    for record in read_records(os.path.join(folder, f"{role}-{index}.jsonl")):
        event = record.get("event")
        if event == "started":
            state = RankState(
                role, index, "Running", host=record.get("host"), started=record.get("time")
            )
        elif event == "ended":
            state = replace(
                state,
                exit_code=record.get("exit_code"),
                signal=record.get("signal"),
                asked=record.get("asked"),
                ended=record.get("time"),
            )
            state = replace(state, state="Failed" if state.status else "Completed")
    return state


def first_failure(ranks: Iterable[RankState]) -> RankState | None:
    """Return the rank that failed first of itself.

    A rank that somebody asked to end counts only when no other failed: launchers end every rank
    once one has failed.
    """
    failed = [rank for rank in ranks if rank.state == "Failed"]
    return min(failed, key=lambda r: (r.asked is not None, r.ended or 0.0), default=None)


def describe_end(rank: RankState) -> str:
    """Return ``exit code 7`` or ``signal 9 (SIGKILL)``."""
    if rank.signal:
        import signal

        try:
            name = signal.Signals(rank.signal).name
        except ValueError:
            name = "unknown"
        return f"signal {rank.signal} ({name})"
    return f"exit code {rank.exit_code}"


def tell_failure(rank: RankState, run_folder: str | os.PathLike[str], lines: int = 20) -> str:
    """Return who failed, where, how, and the last lines of its log."""
    log = os.path.join(run_folder, "logs", f"{rank.name}.log")
    last = tail(log, lines)
    words = f"{rank.name} on {rank.host} failed with {describe_end(rank)}."
    if not last:
        return f"{words} Its log is empty: {log}"
    return "\n".join([f"{words} Last lines of {log}:", *(f"  {line}" for line in last)])
