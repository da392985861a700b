"""The keys that a site may have, as dotted paths: ``mpi.plugin``, ``targets.gpu.account``.

They follow from `hpctf.site.model` alone, whose annotations say which values each may have.
"""

from __future__ import annotations

import types
from collections.abc import Iterable
from dataclasses import asdict, fields, is_dataclass
from functools import cache
from typing import Any, Literal, Union, cast, get_args, get_origin, get_type_hints

from hpctf.site.model import Site

Path = tuple[str, ...]

FILE_ONLY = ("name", "extends")
"""What a site file alone may say: which site it is. ``locked`` joins them where it is a setting."""


def dotted(path: Iterable[object]) -> str:
    """Return ``mpi.plugin`` for ``("mpi", "plugin")``."""
    return ".".join(str(part) for part in path)


def kind_of(path: Path) -> Any:
    """Return the type that the schema has at a path, or None where it has no such key."""
    kind: Any = Site
    for part in path:
        kind = _required(kind)
        if is_dataclass(kind):
            kind = _hints(cast(type, kind)).get(part)
        elif get_origin(kind) is dict:
            kind = get_args(kind)[1]
        else:
            return None
        if kind is None:
            return None
    return kind


def keys_at(path: Path) -> list[str]:
    """Return the keys that the schema allows under a path; none where it allows any name."""
    kind = _required(kind_of(path))
    return sorted(one.name for one in fields(kind)) if is_dataclass(kind) else []


def is_mapping(path: Path) -> bool:
    """Return whether the value at a path is a mapping, which layers merge key by key."""
    kind = _required(kind_of(path))
    return is_dataclass(kind) or get_origin(kind) is dict


def takes_text_alone(path: Path) -> bool:
    """Return whether the value at a path is text, so that what is written is what is meant."""
    kind = _required(kind_of(path))
    if get_origin(kind) is Literal:
        return all(isinstance(value, str) for value in get_args(kind))
    return kind is str


def split(key: str, targets: Iterable[str] = ()) -> Path:
    """Return a dotted key's path.

    Names of targets may hold dots themselves: one of `targets` goes first, and else the name ends
    before the first word that is a target's key.
    """
    parts = key.split(".")
    if parts[0] != "targets" or len(parts) < 3:
        return tuple(parts)
    rest = key.removeprefix("targets.")
    for name in sorted(targets, key=len, reverse=True):
        if rest == name:
            return ("targets", name)
        if rest.startswith(f"{name}."):
            return ("targets", name, *rest.removeprefix(f"{name}.").split("."))
    known = keys_at(("targets", "x"))
    for end in range(2, len(parts)):
        if parts[end] in known:
            return ("targets", ".".join(parts[1:end]), *parts[end:])
    return tuple(parts)


def flat(site: Site) -> dict[Path, Any]:
    """Return a site's values by their paths; tuples as lists, an empty mapping as a value."""
    found: dict[Path, Any] = {}

    def walk(path: Path, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, inner in value.items():
                walk((*path, str(key)), inner)
        else:
            found[path] = list(value) if isinstance(value, tuple) else value

    for key, value in asdict(site).items():
        walk((key,), value)
    return found


def default_of(path: Path) -> tuple[bool, Any]:
    """Return (whether there is one, the value) that a key has where no layer says it."""
    if path[0] == "targets":
        path = ("targets", "default", *path[2:])
    known = _defaults()
    return path in known, known.get(path)


@cache
def _defaults() -> dict[Path, Any]:
    """Return the values of a site that says its name alone."""
    return {path: value for path, value in flat(Site("nameless")).items() if path != ("name",)}


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _required(kind: Any) -> Any:
    """Return ``X`` for ``X | None``."""
    if get_origin(kind) in (Union, types.UnionType):
        inner = [one for one in get_args(kind) if one is not type(None)]
        return inner[0] if len(inner) == 1 else kind
    return kind
