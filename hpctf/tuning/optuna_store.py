"""Studies of Optuna's in a journal of ours.

It imports Optuna: only `hpctf.tuning.search` loads it.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from hpctf.agents.journal import Journal


class JournalBackend(Journal, BaseJournalBackend):
    """The journal as Optuna's public base class of backends."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._held_back: list[dict[str, Any]] | None = None

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        if self._held_back is None:
            super().append_logs(logs)
        else:
            self._held_back += logs

    @contextlib.contextmanager
    def together(self) -> Iterator[None]:
        """Append all records of a block at its end, at once.

        Each append waits for the disk; a trial's parameters need one of them, not one each. Optuna
        reads them back later only: a trial that draws keeps its own copy.
        """
        self._held_back = []
        try:
            yield
        finally:
            logs, self._held_back = self._held_back, None
            if logs:
                super().append_logs(logs)


def storage_of(path: str | os.PathLike[str]) -> JournalStorage:
    """Return the storage of the study in a journal."""
    return JournalStorage(JournalBackend(path))
