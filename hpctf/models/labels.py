"""Tags, properties and descriptions of a version that change after it was registered.

Each change is a numbered folder (`hpctf.common.numbered`) beside the version's record, so that they
have one order for everybody, and whoever makes one has seen all that came before: of two who give
one property different values at once, the second is refused.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from hpctf.common.files import cannot_write, make_folder, read_json, write_json
from hpctf.common.folders import remove_tree
from hpctf.common.numbered import hidden_name, numbers, remove_abandoned, take_number
from hpctf.common.processes import name_of_user
from hpctf.errors import UnreadableModel, UsageError, shown
from hpctf.models.record import Record

CHANGES = "changes"
"""Folder of a version's."""

_CHANGE = "change.json"


@dataclass(frozen=True)
class Labels:
    """What people say of a version."""

    tags: dict[str, Any]
    properties: dict[str, Any]
    description: str | None = None


@dataclass(frozen=True)
class Change:
    """A change of labels: tags to set and to take away, properties to add, a new description."""

    tags: Mapping[str, Any]
    without_tags: tuple[str, ...]
    properties: Mapping[str, Any]
    description: str | None = None

    def made_to(self, labels: Labels) -> Labels:
        """Return the labels after the change; properties that are there stay as they are."""
        tags = {**labels.tags, **self.tags}
        for key in self.without_tags:
            tags.pop(key, None)
        return replace(
            labels,
            tags=tags,
            properties={**self.properties, **labels.properties},
            description=labels.description if self.description is None else self.description,
        )


def change(
    tags: Mapping[str, Any] | None = None,
    without_tags: Iterable[str] = (),
    properties: Mapping[str, Any] | None = None,
    description: str | None = None,
) -> Change:
    """Return a change of what is given."""
    return Change(dict(tags or {}), tuple(without_tags), dict(properties or {}), description)


def labels_of(folder: Path, record: Record, until: int | None = None) -> Labels:
    """Return the labels of a version after all its changes, or after the first of them."""
    labels = Labels(dict(record.tags), dict(record.properties), record.description)
    count = max(numbers(folder / CHANGES), default=0) if until is None else until
    for number in range(1, count + 1):
        labels = _read(folder / CHANGES / str(number)).made_to(labels)
    return labels


def apply(folder: Path, record: Record, wanted: Change, umask: int) -> Labels:
    """Make a change to a version, and return its labels then.

    Raises
    ------
    UsageError
        A property is there with another value: properties never change.
    RunFolderError
        The file system refuses.
    """
    into = folder / CHANGES
    made = into / hidden_name()
    token = os.urandom(16).hex()

    def may_follow(number: int) -> None:
        _check_properties(
            f"{folder.parent.name}:{folder.name}", wanted, labels_of(folder, record, number)
        )

    may_follow(max(numbers(into), default=0))
    remove_abandoned(into)
    try:
        make_folder(made, umask)
        write_json(made / _CHANGE, _document(wanted, token))
        number = take_number(made, lambda path: _token(path) == token, may_follow)
    except OSError as error:
        raise cannot_write(made, error, key="models_root") from None
    finally:
        remove_tree(made)
    return labels_of(folder, record, number)


def _check_properties(name: str, wanted: Change, labels: Labels) -> None:
    for key, value in wanted.properties.items():
        if key in labels.properties and labels.properties[key] != value:
            raise UsageError(
                f"Model {name} has the property {shown(key)} already, with the value "
                f"{shown(labels.properties[key])}: properties never change.",
                "Use a tag for what changes, or register a new version.",
            )


def _document(wanted: Change, token: str) -> dict[str, Any]:
    return {
        "id": token,
        "by": name_of_user(os.geteuid()),
        "time": round(time.time(), 3),
        "tags": dict(wanted.tags),
        "without_tags": list(wanted.without_tags),
        "properties": dict(wanted.properties),
        "description": wanted.description,
    }


def _read(folder: Path) -> Change:
    try:
        found = read_json(folder / _CHANGE, follow=False)
        return change(
            found["tags"], found["without_tags"], found["properties"], found["description"]
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise UnreadableModel(
            f"Cannot read a model's change {str(folder / _CHANGE)!r}: {error}.",
            "Restore it from a backup: what tags and properties the model has hangs on it.",
        ) from None


def _token(folder: Path) -> Any:
    try:
        return read_json(folder / _CHANGE, follow=False)["id"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
