"""What state a run is in, in words and as a listing has it."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

from hpctf.run_folder.rank_states import RankState

if TYPE_CHECKING:
    from hpctf.run_folder.layout import RunFolder

FINAL = ("Completed", "Failed", "Canceled")
"""The states that a run does not leave."""

STATES = ("NotStarted", "Preparing", "Queued", "Running", "Finalizing", *FINAL)
"""Azure ML's names of what a run can be."""

OF_THE_PLAN = ("backend", "site", "target")
OF_THE_RECORD = ("job_id", "cluster", "submitted", "user", "git_commit")
KEYS = {"state", "reason", "exit_code", "ended", "ranks", "time", *OF_THE_RECORD, *OF_THE_PLAN}
"""What ``state/final.json`` holds."""

UNREADABLE = "Unreadable"
"""What a listing has for the state of a run that cannot be read."""


class RunState(NamedTuple):
    """A run's state, why, and its ranks.

    ``away`` says why the scheduler could not be asked; the rest is then what the run folder tells.
    """

    state: str
    reason: str
    exit_code: int | None
    ranks: tuple[RankState, ...]
    away: str = ""

    @property
    def final(self) -> bool:
        """Whether the run will stay in this state."""
        return self.state in FINAL


def nothing_of(folder: RunFolder, reason: str) -> dict[str, Any]:
    """Return the summary of a run that cannot be read: where it lies, and why."""
    unknown = dict.fromkeys(KEYS - {"time"})
    return placed(folder, {**unknown, "state": UNREADABLE, "reason": reason})


def summary(
    folder: RunFolder, record: dict[str, Any], plan: dict[str, Any], status: RunState
) -> dict[str, Any]:
    """Return what `hpctf.runs.status.query.details` tells, with the number of ranks for the
    roles."""
    ends = [rank.ended for rank in status.ranks if rank.ended is not None]
    return placed(
        folder,
        {
            "state": status.state,
            "reason": status.reason,
            "job_id": record.get("job_id"),
            "cluster": record.get("cluster"),
            "exit_code": status.exit_code,
            **{name: plan[name] for name in OF_THE_PLAN},
            "submitted": record.get("submitted"),
            "ended": max(ends) if ends and status.final else None,
            "user": record.get("user"),
            "git_commit": record.get("git_commit"),
            "ranks": len(status.ranks),
        },
    )


def placed(folder: RunFolder, known: dict[str, Any]) -> dict[str, Any]:
    """Return a summary with what the folder's place says: a run may have been moved since."""
    place = {"id": folder.id, "experiment": folder.experiment, "run_folder": str(folder.path)}
    return {**place, **known, **place}


def describe(status: RunState) -> str:
    """Return ``Running (Resources): 1 chief running, 2 workers running``."""
    reason = f" ({status.reason})" if status.reason and not status.final else ""
    return f"{status.state}{reason}: {ranks_in_words(status)}"


def ranks_in_words(status: RunState) -> str:
    """Return ``1 chief running, 2 workers running``."""
    counts = Counter((rank.role, rank.state) for rank in status.ranks)
    return ", ".join(
        f"{number} {_several(role) if number > 1 else role} {_WORDS[state]}"
        for (role, state), number in counts.items()
    )


def _several(role: str) -> str:
    return role if role.endswith("s") else f"{role}s"


_WORDS = {
    "NotStarted": "not started",
    "Running": "running",
    "Completed": "completed",
    "Failed": "failed",
    "Canceled": "cancelled",
}
