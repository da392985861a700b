"""The runs that a run waits for, by what their folders say: which have not ended, and which ended
otherwise than they had to."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hpctf.run_folder.documents import read_final

_TO_END = {"ok": "to complete", "any": "to end", "failed": "to fail"}

_OTHERWISE = {
    ("ok", "Failed"): "failed",
    ("ok", "Canceled"): "was cancelled",
    ("failed", "Completed"): "completed, but had to fail",
}
"""How an end is told that is not the one that was waited for."""


def waited_for(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the earlier runs whose jobs Slurm had to wait for (`hpctf.plan.Earlier`)."""
    return [one for one in plan["after"] if one["job_id"]]


def not_ended(plan: dict[str, Any]) -> list[dict[str, Any]]:
    """Return those of them whose ends are not on record."""
    return [one for one in waited_for(plan) if read_final(one["folder"]) is None]


def what_it_waits_for(plan: dict[str, Any]) -> str:
    """Return ``waits for run X to complete``; empty if all earlier runs have ended."""
    words = [f"run {one['run']} {_TO_END.get(one['when'], 'to end')}" for one in not_ended(plan)]
    return f"waits for {' and '.join(words)}" if words else ""


def ended_otherwise(plan: dict[str, Any]) -> str:
    """Return ``run X, which it was to follow, failed``; empty if none is known to have ended
    otherwise."""
    return next(_ended_otherwise(plan), "")


def _ended_otherwise(plan: dict[str, Any]) -> Iterator[str]:
    for one in waited_for(plan):
        final = read_final(one["folder"])
        how = _OTHERWISE.get((one["when"], final["state"])) if final else None
        if how:
            yield f"run {one['run']}, which it was to follow, {how}"
