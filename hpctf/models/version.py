"""A version of a registered model: its folder, and what is read of it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from hpctf.common.files import read_json
from hpctf.common.units import clock
from hpctf.errors import ModelNotFound
from hpctf.models import files, origin
from hpctf.models.labels import Change, Labels, apply, labels_of
from hpctf.models.record import RECORD, Record, read_record


@dataclass(frozen=True)
class Version:
    """One version of a model: ``<models root>/<name>/<number>``.

    ``model.json`` is its record, ``files`` hold the model, ``run`` what is kept of the run that
    made it, and ``changes`` what was said of it since (docs/models.md).
    """

    path: Path

    @property
    def name(self) -> str:
        """The model's name."""
        return self.path.parent.name

    @property
    def number(self) -> int:
        """The version's number."""
        return int(self.path.name)

    @property
    def id(self) -> str:
        """What it is called: ``digits:3``."""
        return f"{self.name}:{self.number}"

    @property
    def run(self) -> Path:
        """The folder with what is kept of the run that made it; there is none without a run."""
        return self.path / origin.RUN

    @cached_property
    def record(self) -> Record:
        """What was registered.

        Raises
        ------
        UnreadableModel
            It is missing, damaged, or of a newer hpctf.
        ModelNotFound
            The version was removed.
        """
        self.check_there()
        return read_record(self.path)

    @property
    def is_removed(self) -> bool:
        """Whether the version was removed."""
        return os.path.lexists(self.path / files.REMOVED)

    @property
    def is_half_removed(self) -> bool:
        """Whether its removal was cut short."""
        return self.is_removed and os.listdir(self.path) != [files.REMOVED]

    def check_there(self) -> None:
        """Raise `ModelNotFound` if the version was removed."""
        if not self.is_removed:
            return
        try:
            found = read_json(self.path / files.REMOVED)
            who, when = str(found["by"]), f" on {clock(float(found['time']))}"
        except (OSError, ValueError, KeyError, TypeError):
            who, when = "its owner", ""
        raise ModelNotFound(
            f"Model {self.id} was removed by {who}{when}.", f"hpctf models list {self.name}"
        )

    def labels(self) -> Labels:
        """Return its tags, properties and description as they are now."""
        return labels_of(self.path, self.record)

    def change(self, wanted: Change, umask: int) -> Labels:
        """Change tags and description, or add properties (`hpctf.models.labels.apply`)."""
        return apply(self.path, self.record, wanted, umask)

    def verified(self) -> Path:
        """Return the path of the model's file or folder (`hpctf.models.files.verify`)."""
        return files.verify(self.path, self.record)

    def copy_to(self, folder: Path, exist_ok: bool = False) -> Path:
        """Copy the model's file or folder (`hpctf.models.files.copy_out`)."""
        return files.copy_out(self.path, self.record, folder, exist_ok)

    def metrics(self) -> dict[str, Any]:
        """Return all that its run had logged when it was registered, by name."""
        try:
            found = read_json(self.run / origin.METRICS)
        except (OSError, ValueError):
            return {}
        return dict(found) if isinstance(found, Mapping) else {}


def is_made_by(path: Path, token: str) -> bool:
    """Return whether the folder of a version is the one whose record has that id."""
    try:
        found = read_json(path / RECORD, follow=False)
        return isinstance(found, dict) and found.get("id") == token
    except (OSError, ValueError):
        return False
