"""Where a command's settings come from: files, environment variables, flags."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from hpctf.common.paths import config_folder
from hpctf.common.secrets import hidden_in_shell
from hpctf.site.discovery import folders
from hpctf.site.explain import explain
from hpctf.site.loading import load_layers

JobKey = tuple[str, str, Any]
"""A job file, a key of it, and its value."""

_OWN = "HPCTF_"
_OTHERS = ("NO_COLOR",)


@dataclass(frozen=True)
class Source:
    """A file, folder or variable that hpctf reads, and what is there: ``read``, ``not there`` or
    the variable's value."""

    what: str
    place: str
    state: str


@dataclass(frozen=True)
class Value:
    """A setting, its value, and the file and line, variable or flag that it is from."""

    key: str
    value: Any
    origin: str
    is_default: bool = False


@dataclass(frozen=True)
class Overview:
    """What hpctf reads, and each setting with its origin."""

    site: str
    sources: tuple[Source, ...]
    values: tuple[Value, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return asdict(self)


def overview(
    site: str | None, settings: Sequence[str] = (), job: Sequence[JobKey] = ()
) -> Overview:
    """Return where the settings of a site, and of a job file, come from.

    Raises
    ------
    UsageError, SiteError
        There is no such site, or it is wrong.
    """
    layers = load_layers(site, settings=tuple(settings))
    files = dict.fromkeys(layer.where for layer in layers.layers if os.path.isabs(layer.where))
    sources = [
        *(Source("site file", where, "read") for where in files),
        *_folders(),
        *_variables(),
        *dict.fromkeys(Source("job file", file, "read") for file, _, _ in job),
    ]
    values = [
        Value(one.key, one.said.value, str(one.said.origin), one.said.origin.layer == "default")
        for one in explain(layers)
    ]
    values += [Value(key, value, file) for file, key, value in job]
    return Overview(layers.name, tuple(sources), tuple(values))


def _folders() -> list[Source]:
    named = {"admin": "the admin's sites", "user": "your sites"}
    places = [(named[kind], folder) for kind, folder in folders().items() if kind in named]
    places.append(("your settings", config_folder()))
    return [
        Source(what, str(folder), "read" if folder.is_dir() else "not there")
        for what, folder in places
    ]


def _variables() -> list[Source]:
    names = sorted(name for name in os.environ if name.startswith(_OWN) or name in _OTHERS)
    shown = [hidden_in_shell(f"{name}={os.environ[name]}").partition("=")[2] for name in names]
    return [Source("variable", name, value) for name, value in zip(names, shown, strict=True)]
