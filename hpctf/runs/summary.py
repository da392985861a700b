"""What is to be told of a run in one line: all that is known of it but its ranks one by one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpctf.run_folder.layout import RunFolder
    from hpctf.runs.status.state import Status

OF_THE_RECORD = ("job_id", "cluster", "submitted", "user", "git_commit")
OF_THE_PLAN = ("backend", "site", "target")
KEYS = frozenset(
    ("state", "reason", "exit_code", "ended", "ranks", "time", *OF_THE_RECORD, *OF_THE_PLAN)
)
"""What ``state/final.json`` holds; where one is missing, an older hpctf has written it."""


UNREADABLE = "Unreadable"
"""What a listing has for the state of a run that cannot be read."""


def nothing_of(folder: RunFolder, reason: str) -> dict[str, Any]:
    """Return the summary of a run that cannot be read: where it lies, and why."""
    unknown = dict.fromkeys(KEYS - {"time"})
    return placed(folder, {**unknown, "state": UNREADABLE, "reason": reason})


def summary(
    folder: RunFolder, record: dict[str, Any], plan: dict[str, Any], status: Status
) -> dict[str, Any]:
    """Return what `hpctf.runs.status.query.details` tells, with the number of ranks for the roles.

    Parameters
    ----------
    record, plan
        The content of ``run.json`` and ``plan.json``.
    """
    return placed(
        folder,
        {
            "state": status.state,
            "reason": status.reason,
            "job_id": record.get("job_id"),
            "cluster": record.get("cluster"),
            "exit_code": status.exit_code,
            "backend": plan["backend"],
            "site": plan["site"],
            "target": plan["target"],
            "submitted": record.get("submitted"),
            "ended": _ended(status),
            "user": record.get("user"),
            "git_commit": record.get("git_commit"),
            "ranks": len(status.ranks),
        },
    )


def placed(folder: RunFolder, known: dict[str, Any]) -> dict[str, Any]:
    """Return a summary with what the folder's place says: a run may have been moved since."""
    place = {
        "id": folder.run_id,
        "experiment": folder.path.parent.name,
        "run_folder": str(folder.path),
    }
    return {**place, **known, **place}


def _ended(status: Status) -> float | None:
    """Return when the last rank ended, of a run that is over."""
    ends = [rank.ended for rank in status.ranks if rank.ended is not None]
    return max(ends) if ends and status.final else None
