"""The last layers of a site: HPCTF_ variables, and settings (``--set KEY=VALUE``)."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from hpctf.errors import SiteError, UsageError, did_you_mean, shown
from hpctf.site.keys import FILE_ONLY, dotted, is_mapping, keys_at, kind_of, split, takes_text_alone
from hpctf.site.layers import Layer, nested
from hpctf.site.model import Site
from hpctf.site.yaml_files import NotReadable, parse_yaml, printable

PREFIX = "HPCTF_"

Settings = Mapping[str, object] | Sequence[str]
"""``{"mpi.plugin": "pmi2"}``, or the command line's ``["mpi.plugin=pmi2"]``."""

_NO_SETTINGS = (*FILE_ONLY, "locked")


def check_settings(settings: object) -> Settings | None:
    """Return settings that are a mapping, or a list of KEY=VALUE; refuse all others."""
    if settings is None or isinstance(settings, Mapping):
        return settings
    if isinstance(settings, Sequence) and not isinstance(settings, str):
        return [str(word) for word in settings]
    raise UsageError(
        f"settings must be a mapping such as {{'mpi.plugin': 'pmi2'}}, not {shown(settings)}."
    )


def variables(environ: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that set keys of a site; those of hpctf's own jobs do not.

    An empty one is as good as none.
    """
    found = {}
    for name, text in environ.items():
        if name.startswith(PREFIX) and text:
            top = name.removeprefix(PREFIX).split("__")[0].lower()
            if top in Site.__dataclass_fields__ and top not in _NO_SETTINGS:
                found[name] = text
    return dict(sorted(found.items()))


def environment_layers(
    environ: Mapping[str, str], targets: Iterable[str]
) -> tuple[list[Layer], list[str]]:
    """Return (a layer for each variable that sets a key, a line for each that is wrong).

    Wrong is a variable of a section that has no such key, or a value that is no YAML. The names of
    `targets` can only be spelt in capitals by variables.
    """
    known = list(targets)
    layers, problems = [], []
    for name, text in variables(environ).items():
        path = _path_of(name, known)
        if kind_of(path) is None:
            keys = keys_at(path[:-1])
            problems.append(
                f"{name}: a site has no key {shown(dotted(path))}.{did_you_mean(path[-1], keys)} "
                f"Known under {dotted(path[:-1])}: {', '.join(keys) or 'nothing'}"
            )
            continue
        try:
            layers.append(_layer("environment", name, path, _value(name, path, text)))
        except SiteError as error:
            problems.append(error.message)
    return layers, problems


def _path_of(name: str, targets: list[str]) -> tuple[str, ...]:
    """Return the path that ``HPCTF_TARGETS__GPU__ACCOUNT`` means."""
    path: tuple[str, ...] = ()
    for part in name.removeprefix(PREFIX).split("__"):
        word = part.lower()
        if path == ("targets",):
            spelt = (one for one in targets if re.sub("[-.]", "_", one.upper()) == part)
            word = next(spelt, word)
        elif path and path[-1] == "directives":
            word = word.replace("_", "-")
        elif path and is_mapping(path) and not keys_at(path):
            word = part  # names of variables
        path = (*path, word)
    return path


def setting_layers(settings: Settings | None, targets: Iterable[str]) -> list[Layer]:
    """Return a layer for each setting. Raises `UsageError` for a setting of a key that no site has,
    or not of the form KEY=VALUE."""
    known = list(targets)
    layers = []
    for key, value, name in _pairs(settings):
        path = split(key, known)
        _check_key(key, path, name)
        if isinstance(value, _Text):
            value = _value(name, path, value)
        layers.append(_layer("flag", name, path, _plain(value)))
        if path[0] == "targets" and len(path) > 1:
            known.append(path[1])
    return layers


class _Text(str):
    """A value as the command line has it, still to be read as YAML."""


def _pairs(settings: Settings | None) -> list[tuple[str, Any, str]]:
    if settings is None:
        return []
    if isinstance(settings, Mapping):
        return [(str(key), value, f"settings[{shown(key)}]") for key, value in settings.items()]
    pairs: list[tuple[str, Any, str]] = []
    for word in settings:
        key, equals, value = word.partition("=")
        if not equals or not key:
            raise UsageError(
                f"--set {shown(word)} is not of the form KEY=VALUE.",
                "For example --set mpi.plugin=pmi2; 'hpctf site explain' lists the keys.",
            )
        pairs.append((key.strip(), _Text(value), f"--set {printable(key.strip())}"))
    return pairs


def _check_key(key: str, path: tuple[str, ...], name: str) -> None:
    if path[0] in _NO_SETTINGS:
        raise UsageError(
            f"{name}: {path[0]} belongs in a site file.",
            "Write it there: hpctf site init makes one.",
        )
    if kind_of(path) is not None and all(path):
        return
    ends = range(1, len(path) + 1)
    end = next(end for end in ends if kind_of(path[:end]) is None or not path[end - 1])
    known = keys_at(path[: end - 1])
    above = dotted(path[: end - 1])
    near = did_you_mean(path[end - 1], known)
    raise UsageError(
        f"{name}: a site has no key {shown(key)}.{near}",
        f"Known{f' under {above}' if above else ''}: {', '.join(known) or 'nothing'}.",
    )


def _value(name: str, path: tuple[str, ...], text: str) -> Any:
    """Return what a variable's or an option's text says. Where a key takes text, the text is it as
    it stands, unless it is written in quotes: paths may hold what means something in YAML."""
    if path in (("runs_root",), ("models_root",)):
        return str(text)
    try:
        value = parse_yaml(text)
    except NotReadable as error:
        if takes_text_alone(path):
            return str(text)
        raise SiteError(
            f"{name}: {shown(text)} is not YAML that can be used: {error}.",
            "Put the value in quotes.",
        ) from None
    in_quotes = re.fullmatch(r"""\s*(["']).*\1\s*""", text, re.DOTALL)
    if takes_text_alone(path) and value is not None and not in_quotes:
        return str(text)
    return value


def _plain(value: Any) -> Any:
    """Return a Python value as YAML would give it."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def _layer(kind: str, name: str, path: tuple[str, ...], value: Any) -> Layer:
    if path == ("templates",) and isinstance(value, str) and not value.startswith("~"):
        value = str(Path.cwd() / value)
    return Layer(kind, name, nested(path, value))
