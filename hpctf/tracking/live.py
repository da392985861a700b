"""What a run has logged and used so far: each look reads only what is new."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from hpctf.client.hpctf.journal_reader import Journal, records_of, whole_lines
from hpctf.client.hpctf.run_metrics import JOURNALS
from hpctf.client.hpctf.series import Series
from hpctf.client.hpctf.within import open_file
from hpctf.tracking.samples import Samples, sample_file
from hpctf.tracking.tensorboard_events import event_series

_SECOND = re.compile(r"\.\d+\.jsonl\Z")
"""The end of a file's name that a second process of a rank writes."""


_EVENTS_S = (5.0, 20)
"""Shortest time between two readings of TensorBoard's files, and how often as long as one took."""


class Progress(NamedTuple):
    """How far a training is: epochs done of all, since when, and where it was first seen.

    Times are seconds since the epoch.
    """

    epoch: int
    epochs: int
    time: float
    first_epoch: int
    first_time: float

    def left_s(self, now: float, began: float | None = None) -> float | None:
        """Return the seconds that are left if the epochs go on as they went, or None.

        Before the second epoch has ended, there is nothing to go by but when the training `began`.
        """
        done, took = self.epoch - self.first_epoch, self.time - self.first_time
        if done <= 0 and began is not None:
            done, took = self.epoch, self.time - began
        if done <= 0 or took <= 0:
            return None
        return max(0.0, took / done * (self.epochs - self.epoch) - (now - self.time))


class Live:
    """Follows the journals and samples of some of a run's ranks, which are named in rank order:
    ``chief-0`` and so on."""

    def __init__(self, folder: Path, ranks: Sequence[str]) -> None:
        self._folder = folder
        self._ranks = list(ranks)
        self._growing: dict[Path, _Growing] = {}
        self._journals: dict[Path, Journal] = {}
        self.samples = {rank: Samples() for rank in self._ranks}
        self.progress: Progress | None = None
        self._events: dict[str, Series] = {}
        self._events_at = 0.0

    def look(self) -> None:
        """Read what has been written since the last look."""
        for path in self._files():
            self._journals.setdefault(path, self._journal(path))
            for text in self._new(path):
                if self._begins_anew(path):
                    self._journals[path] = self._journal(path)
                self._journals[path].take_lines(text)
        for rank in self._ranks:
            path = sample_file(self._folder, rank)
            for text in self._new(path):
                if self._begins_anew(path):  # its rank has thinned it
                    self.samples[rank] = Samples()
                for record in records_of(text.split(b"\n")):
                    self.samples[rank].take(record)

    def scalars(self) -> dict[str, Series]:
        """Return the numbers logged under each name, by the first rank that logged it."""
        found: dict[str, Series] = {}
        for path in self._files():
            for name, series in self._journals[path].series.items():
                if series.kind == "value":
                    found.setdefault(name, series)
        return found

    def series(self) -> dict[str, Series]:
        """Return `scalars`, and what TensorBoard's files hold.

        Those are read whole, so not with each call.
        """
        began = time.monotonic()
        if began >= self._events_at:
            self._events = event_series(self._folder)
            took = time.monotonic() - began
            self._events_at = began + max(_EVENTS_S[0], _EVENTS_S[1] * took)
        return {**self._events, **self.scalars()}

    def _files(self) -> list[Path]:
        """Return the journals of the ranks, their second processes' behind their own."""
        folder = self._folder / JOURNALS
        try:
            names = sorted(path.name for path in folder.iterdir())
        except FileNotFoundError:
            return []
        found = []
        for rank in self._ranks:
            more = [n for n in names if n.startswith(f"{rank}.") and _SECOND.search(n)]
            found += [name for name in (f"{rank}.jsonl", *more) if name in names]
        return [folder / name for name in found]

    def _new(self, path: Path) -> Iterator[bytes]:
        return self._growing.setdefault(path, _Growing(path)).lines()

    def _begins_anew(self, path: Path) -> bool:
        """Whether a file has just taken the place of the one that was read before."""
        anew, self._growing[path].began_anew = self._growing[path].began_anew, False
        return anew

    def _journal(self, path: Path) -> Journal:
        return Journal(partial(self._advance, path))

    def _advance(self, path: Path, record: dict[str, Any]) -> None:
        said, before = record["progress"], self.progress
        # The first journal that has told how far it is counts; others may be ahead or behind.
        telling = (known for known, journal in self._journals.items() if journal.progress)
        if path != next(telling, path) or not {"epoch", "epochs"} <= said.keys():
            return
        epoch, at = int(said["epoch"]), float(record["time"])
        again = before is None or epoch <= before.epoch or said["epochs"] != before.epochs
        first = (epoch, at) if again or before is None else (before.first_epoch, before.first_time)
        self.progress = Progress(epoch, int(said["epochs"]), at, *first)


class _Growing:
    """A file of records that is being appended to, or replaced by another one: ``began_anew`` then,
    until whoever has dropped what the one before held resets it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0
        self._file: tuple[int, int] | None = None
        self.began_anew = False

    def lines(self) -> Iterator[bytes]:
        """Yield the whole lines that have come since the last call, many at a time."""
        try:
            with open_file(self._path) as stream:
                found = os.fstat(stream.fileno())
                file = (found.st_dev, found.st_ino)
                if self._file not in (None, file) or found.st_size < self._offset:
                    self._offset, self.began_anew = 0, True
                self._file = file
                stream.seek(self._offset)
                for text in whole_lines(stream):
                    if text.endswith(b"\n"):
                        self._offset += len(text)
                        yield text
        except FileNotFoundError:
            return
