"""How much of the disk runs take, and which of their rooms."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hpctf.runs.status.listing import Listed

PARTS = ("outputs", "checkpoints", "logs", "snapshot", "metrics", "other")
_PART_OF = {**{name: name for name in PARTS}, "artifacts": "outputs", "children": "metrics"}
"""What the rooms of a run folder count as; files and rooms that are not named are ``other``."""

_BLOCK = 512
"""Bytes of stat(2)'s blocks, whatever the file system's own are."""

Inodes = set[tuple[int, int]]
"""(device, inode) of files of several names that have been counted."""


@dataclass(frozen=True)
class Sizes:
    """Bytes on the disk by part (`PARTS`), and how many folders could not be read."""

    parts: dict[str, int]
    unread: int = 0

    @property
    def total(self) -> int:
        """All parts together."""
        return sum(self.parts.values())

    def __add__(self, other: Sizes) -> Sizes:
        parts = {part: self.parts[part] + other.parts[part] for part in PARTS}
        return Sizes(parts, self.unread + other.unread)


NOTHING = Sizes(dict.fromkeys(PARTS, 0))


@dataclass(frozen=True)
class Usage:
    """A run of a listing with its sizes."""

    run: Listed
    sizes: Sizes


def usage(runs: Iterable[Listed]) -> list[Usage]:
    """Return the runs with their sizes, the largest first.

    A file of several names (hard links) counts once, for the first run that has it.
    """
    counted: Inodes = set()
    found = [Usage(run, sizes_of(run.folder.path, counted)) for run in runs]
    return sorted(found, key=lambda one: one.sizes.total, reverse=True)


def by_experiment(found: Iterable[Usage]) -> dict[str, Sizes]:
    """Return what each experiment's runs take together, the largest first."""
    sums: dict[str, Sizes] = {}
    for one in found:
        name = str(one.run.details["experiment"])
        sums[name] = sums.get(name, NOTHING) + one.sizes
    return dict(sorted(sums.items(), key=lambda item: item[1].total, reverse=True))


def sizes_of(folder: Path, counted: Inodes | None = None) -> Sizes:
    """Return what a run folder takes of the disk.

    Holes of sparse files take nothing, and links no more than themselves: what they lead to is not
    the run's. Files that vanish meanwhile are passed over, and those `counted` of several names, to
    which those that are found are added.
    """
    counted = set() if counted is None else counted
    parts = dict.fromkeys(PARTS, 0)
    unread: list[OSError] = []
    parts["other"] += _blocks(os.lstat(folder), counted) if os.path.lexists(folder) else 0
    for entry in _entries(folder, unread):
        part = _PART_OF.get(entry.name, "other") if entry.is_dir() else "other"
        parts[part] += sum(_blocks(found, counted) for found in _below(entry, unread))
    return Sizes(parts, len(unread))


def _below(top: os.DirEntry[str], unread: list[OSError]) -> Iterator[os.stat_result]:
    """Yield what stat(2) says of an entry and of all below it."""
    waiting = [top]
    while waiting:
        entry = waiting.pop()
        try:
            yield entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
        if entry.is_dir(follow_symlinks=False):
            waiting += _entries(entry.path, unread)


def _entries(folder: str | Path, unread: list[OSError]) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except FileNotFoundError:
        return []
    except OSError as error:
        unread.append(error)
        return []


def _blocks(found: os.stat_result, counted: Inodes) -> int:
    """Return the bytes of a file; 0 if another name of it has been counted."""
    if found.st_nlink > 1:
        inode = (found.st_dev, found.st_ino)
        if inode in counted:
            return 0
        counted.add(inode)
    return found.st_blocks * _BLOCK
