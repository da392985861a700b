"""A ledger: the file by which the agents of a run share out what is to be done.

One JSON record a line, in `hpctf.agents.journal.Journal`: a torn tail, a lock holder that died and
a full disk cost nothing. Each reader remembers how far it has read, so that a run's cost grows with
its records, not with their square.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Generic, Protocol, TypeVar

from hpctf.agents.journal import Journal

LEDGER = "ledger.jsonl"
"""Its name in the run's folder."""


class Taken(Protocol):
    """What the records of a ledger say, up to the last one that was taken."""

    def take(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Take records that have been appended since."""


Progress = TypeVar("Progress", bound=Taken)


class SharedLedger(Generic[Progress]):
    """A ledger, and what it says so far.

    Parameters
    ----------
    path
        The file.
    progress
        What it says before its first record; it takes all others.
    """

    def __init__(self, path: str | os.PathLike[str], progress: Progress) -> None:
        self._journal = Journal(path)
        self._count = 0
        self._is_held = False
        self.guard: Callable[[Progress], None] | None = None
        """Called before each record, the ledger being held: it raises if none is to be appended."""
        self.progress = progress

    def refresh(self) -> Progress:
        """Read what has been appended since, and return what the ledger says now."""
        records = self._journal.read_logs(self._count)
        self._count += len(records)
        self.progress.take(records)
        return self.progress

    @contextlib.contextmanager
    def held(self) -> Iterator[Progress]:
        """Hold the ledger for a block: what it says does not change but by what the block appends.

        Raises
        ------
        RunFolderError
            The file system refuses.
        """
        if self._is_held:
            yield self.progress
            return
        with self._journal.held():
            self._is_held = True
            try:
                yield self.refresh()
            finally:
                self._is_held = False

    def append(self, event: str, **more: Any) -> Progress:
        """Append a record, and return what the ledger says then."""
        with self.held() as progress:
            if self.guard is not None:
                self.guard(progress)
            self._journal.append_logs([{"event": event, "time": time.time(), **more}])
            return self.refresh()
