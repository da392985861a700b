"""Many runs at a glance: one small file of each that is settled, one question for all others."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from hpctf.errors import UnreadableRun
from hpctf.run_folder.documents import read_final
from hpctf.run_folder.layout import RunFolder, run_folders
from hpctf.runs.status.query import statuses
from hpctf.runs.status.state import FINAL, UNREADABLE, nothing_of, placed, summary


@dataclass(frozen=True)
class Listed:
    """A run of a listing.

    ``details`` is what `Run.get_details` tells, with ``ranks``, their number, for ``roles``;
    ``away`` says why the scheduler could not be asked about it, if it had to be.
    """

    folder: RunFolder
    details: dict[str, Any]
    away: str = ""

    @property
    def id(self) -> str:
        """The run's id."""
        return self.folder.id

    @property
    def state(self) -> str:
        """The state's name."""
        return str(self.details["state"])

    @property
    def final(self) -> bool:
        """Whether the run is over."""
        return self.state in FINAL

    @property
    def unreadable(self) -> str:
        """What is wrong with its folder; empty if nothing is."""
        return str(self.details["reason"]) if self.state == UNREADABLE else ""

    @property
    def since(self) -> float:
        """When it ended, else when it was submitted, in seconds since the epoch."""
        return float(self.details["ended"] or self.details["submitted"] or 0.0)


def list_runs(
    root: Path,
    experiment: str | None = None,
    states: Collection[str] = (),
    limit: int | None = None,
) -> list[Listed]:
    """Return the runs under a root, the latest first: those in one of `states`, if any are named,
    and `limit` of them at most."""
    folders = run_folders(root, experiment)
    if not states:
        return listed(islice(folders, limit))
    return [one for one in listed(folders) if one.state in states][:limit]


def listed(folders: Iterable[RunFolder]) -> list[Listed]:
    """Return runs as a listing shows them, in their order; those that vanish meanwhile are not
    among them."""
    ordered = list(folders)
    known: dict[Path, Listed | None] = {}
    still_open: list[RunFolder] = []
    for folder in ordered:
        known[folder.path] = None
        final = read_final(folder.path)
        if final is not None:
            final.pop("time", None)
            known[folder.path] = Listed(folder, placed(folder, final))
            continue
        try:
            still_open += _read(folder)
        except UnreadableRun as error:
            known[folder.path] = _unreadable(folder, error)

    found = statuses(still_open)
    for run in still_open:
        status = found[run.id]
        try:
            told = summary(run, run.read_record(), run.plan, status)
        except UnreadableRun as error:  # since a moment ago
            known[run.path] = _unreadable(run, error)
        else:
            known[run.path] = Listed(run, told, status.away)

    return [one for folder in ordered if (one := known[folder.path]) is not None]


def readable_runs(folders: Iterable[RunFolder], tell: Callable[[str], None]) -> list[RunFolder]:
    """Return the runs that can be read, in their order; of the others is told what is wrong."""
    found: list[RunFolder] = []
    for folder in folders:
        try:
            found += _read(folder)
        except UnreadableRun as error:
            tell(f"Left out: {error.message}")
    return found


def _unreadable(folder: RunFolder, error: UnreadableRun) -> Listed | None:
    """Return what a listing shows of a run that cannot be read; None if it is gone."""
    if not os.path.lexists(folder.record_file):
        return None
    return Listed(folder, nothing_of(folder, f"{error.file}: {error.reason}"))


def _read(folder: RunFolder) -> list[RunFolder]:
    """Return the run with its documents read, or nothing if it is gone. Raises `UnreadableRun`."""
    if not os.path.lexists(folder.record_file):
        return []
    folder.read_record()
    folder.plan  # noqa: B018  (read now, while it is known to be there)
    return [folder]
