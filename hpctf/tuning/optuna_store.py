"""Studies of Optuna's in a journal of ours.

It imports Optuna: only `hpctf.tuning.search` loads it.
"""

from __future__ import annotations

import os

from optuna.storages import JournalStorage
from optuna.storages.journal import BaseJournalBackend

from hpctf.tuning.journal import Journal


class JournalBackend(Journal, BaseJournalBackend):
    """The journal as Optuna's public base class of backends."""


def storage_of(path: str | os.PathLike[str]) -> JournalStorage:
    """Return the storage of the study in a journal."""
    return JournalStorage(JournalBackend(path))
