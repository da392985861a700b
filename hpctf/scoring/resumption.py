"""Going on with a scoring run that ended early: what it has scored is kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctf.common.files import read_json, write_json
from hpctf.errors import UsageError, shown
from hpctf.run_folder.layout import RunFolder
from hpctf.runs.status.query import look
from hpctf.scoring.definition import Definition, Scoring

PLAN = "parts.json"
PARTS = "parts"
"""A plan of the parts, and the folder where they lie, as workers call them
(`hpctf.scoring.worker`)."""


@dataclass(frozen=True)
class Earlier:
    """A scoring run that is over, without being complete.

    Parameters
    ----------
    plan
        Its ``parts.json``; None if its files were never cut into parts.
    done
        The parts that it has scored, and that are still there.
    """

    folder: RunFolder
    definition: Definition
    plan: Mapping[str, Any] | None
    done: tuple[int, ...]

    @property
    def runs(self) -> list[str]:
        """The ids of the runs whose output may be replaced: its own, and of those that it went on
        with."""
        return [*self.definition.resumed, self.folder.id]


def earlier_run(folder: RunFolder) -> Earlier:
    """Return a run to go on with.

    Raises
    ------
    UsageError
        It is not over, has scored all, or its inputs are not what they were.
    """
    scoring = Scoring(folder)
    progress = scoring.ledger.refresh()
    status = look(folder)
    if not status.final:
        raise UsageError(
            f"Run {folder.id} is not over yet ({status.state}).",
            f"Wait for it (hpctf wait {folder.id}), or cancel it first: hpctf cancel {folder.id}",
        )
    definition = scoring.definition
    if progress.is_joined and not progress.failed:
        raise UsageError(
            f"Run {folder.id} has scored all its rows: {definition.out}.",
            "There is nothing left to do.",
        )
    plan = _plan_of(folder) if progress.parts is not None else None
    if plan is None:
        return Earlier(folder, definition, None, ())
    for path, was in zip(definition.files, plan["files"], strict=True):
        _check_unchanged(folder, path, was)
    there = {entry.name for entry in os.scandir(folder.path / PARTS)}
    done = (number for number in sorted(progress.scored) if _part(number) in there)
    return Earlier(folder, definition, plan, tuple(done))


def _plan_of(folder: RunFolder) -> Mapping[str, Any] | None:
    try:
        plan = read_json(folder.path / PLAN)
        return plan if len(plan["files"]) and plan["parts"] else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _check_unchanged(folder: RunFolder, path: str, was: Any) -> None:
    try:
        about = os.stat(path)
        now: Any = [about.st_size, about.st_mtime_ns]
    except OSError as error:
        raise UsageError(
            f"Cannot read {shown(path)}: {error.strerror}.",
            "Put the input back where it was, or score again as a new run.",
        ) from None
    if now != was:
        raise UsageError(
            f"Cannot continue run {folder.id}: {shown(path)} has changed since its rows were "
            "counted.",
            "Score anew: hpctf score MODEL INPUTS... --out DIR",
        )


def take_over(earlier: Earlier, scoring: Scoring) -> None:
    """Give a run the parts of an earlier one, and say so in its ledger.

    Raises
    ------
    OSError
        The file system refuses.
    """
    if earlier.plan is None:
        return
    old, new = earlier.folder.path / PARTS, scoring.folder.path / PARTS
    for number in earlier.done:
        _link(old / _part(number), new / _part(number))
    write_json(scoring.folder.path / PLAN, dict(earlier.plan), shared=True)
    rows = sum(earlier.plan["rows"])
    scoring.ledger.append("planned", parts=len(earlier.plan["parts"]), rows=rows)
    scoring.ledger.append("kept", tasks=list(earlier.done), run=earlier.folder.id)


def _link(source: Path, target: Path) -> None:
    """Let a file of one's own have a second name, and copy all others: their owner may write to
    them."""
    try:
        if source.stat().st_uid == os.geteuid():
            os.link(source, target)
            return
    except OSError:  # the file system has no links
        pass
    shutil.copyfile(source, target)


def _part(number: int) -> str:
    return f"part-{number:07}.npz"
