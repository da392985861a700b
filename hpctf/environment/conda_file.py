"""Reading conda packages: lists of them, and ``environment.yml`` files."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctf.environment.requirements import Reader
from hpctf.errors import UsageError, did_you_mean, shown
from hpctf.site.reading import NotReadable, named, parse_yaml, read_text

_SPEC = re.compile(
    r"""^(?:[\w./:-]+::)?            # channel
        (?P<name>[A-Za-z0-9_][\w.-]*)
        (?:\s*(?P<operator>==?|[<>!~]=?|\s)\s*(?P<version>[\w.*+!,<>=|~-]+(?:\s[\w*]+)?))?
        (?:\s*\[.*\])?$""",
    re.VERBOSE,
)
_KNOWN = ("name", "channels", "dependencies", "prefix")


@dataclass(frozen=True)
class CondaPackages:
    """What was asked of conda.

    Parameters
    ----------
    packages
        Match specifications, as conda reads them; Python's own is in `python`.
    channels
        Those that the file names; empty: the site's.
    python
        The version of Python among them, ``3.11``; empty if none is.
    names
        The packages' names, in lower case.
    """

    packages: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    python: str = ""
    names: frozenset[str] = frozenset()


def conda_packages(
    packages: Sequence[str], file: str | None, base: Path, pip: Reader
) -> CondaPackages | None:
    """Return what a list and a file ask of conda; None if there is neither.

    Parameters
    ----------
    pip
        Takes what stands in the file's ``pip:`` section.
    """
    if not packages and not file:
        return None
    specs = [(f"conda_packages[{i}]", text) for i, text in enumerate(packages)]
    channels: list[str] = []
    if file:
        path = Path(os.path.abspath(base / os.path.expanduser(file)))
        more, channels = _file(path, pip)
        specs += more
    found: dict[str, None] = {}
    names: set[str] = set()
    python = ""
    for where, text in specs:
        matched = _SPEC.match(text.strip())
        if matched is None:
            raise UsageError(
                f"{where}: {shown(text)} is no conda package.",
                "They look like NAME, NAME=1.2 or CHANNEL::NAME>=1.",
            )
        name = matched["name"].lower()
        names.add(name)
        if name == "python":
            python = _python(where, text, matched["operator"], matched["version"], python)
        else:
            found[text.strip()] = None
    return CondaPackages(tuple(found), tuple(channels), python, frozenset(names))


def _python(where: str, text: str, operator: str | None, version: str | None, known: str) -> str:
    """Return the version that ``python=3.11`` names."""
    exact = re.fullmatch(r"(3\.\d+(?:\.\d+)?)(\.\*)?", version or "")
    if version is None:
        return known
    if exact is None or (operator or "").strip() not in ("=", "=="):
        raise UsageError(
            f"{where}: {shown(text)}: hpctf needs to know which Python it will be.",
            "Write python=3.11.",
        )
    if known and known != exact[1]:
        raise UsageError(f"{where}: {shown(text)}, but python={known} is asked for, too.")
    return exact[1]


def _file(path: Path, pip: Reader) -> tuple[list[tuple[str, str]], list[str]]:
    """Return the specifications of an ``environment.yml`` with where they stand, and channels."""
    import yaml

    try:
        text = read_text(path)
        content = parse_yaml(text, yaml.SafeLoader)
    except FileNotFoundError:
        raise UsageError(f"The conda file {named(path)} does not exist.") from None
    except NotReadable as error:
        raise UsageError(
            f"The conda file {named(path, error.line)} cannot be read: {error}."
        ) from None
    if not isinstance(content, dict):
        raise UsageError(
            f"The conda file {named(path)} is no mapping.", "It begins with dependencies: or name:."
        )
    for key in content:
        if key not in _KNOWN:
            hint = "Give variables to the estimator: environment_variables."
            raise UsageError(
                f"{named(path, _line(text, str(key)))}: {shown(key)} is not read by hpctf."
                f"{did_you_mean(str(key), list(_KNOWN))}",
                hint if key == "variables" else f"It reads: {', '.join(_KNOWN)}.",
            )
    specs: list[tuple[str, str]] = []
    for item in _list(content, "dependencies", path, text):
        if isinstance(item, dict) and set(item) == {"pip"}:
            for line in _list(item, "pip", path, text):
                where = named(path, _line(text, str(line)))
                if not isinstance(line, str):
                    raise UsageError(f"{where}: {shown(line)} is no requirement.")
                pip.entry(line.strip(), where, path.parent)
        elif isinstance(item, str):
            if item != "pip":  # it is always there
                specs.append((named(path, _line(text, item)), item))
        else:
            raise UsageError(
                f"{named(path, _line(text, str(item)))}: {shown(item)} is no conda package."
            )
    channels = [str(name) for name in _list(content, "channels", path, text)]
    return specs, [name for name in channels if name != "nodefaults"]


def _list(content: dict[str, Any], key: str, path: Path, text: str) -> list[Any]:
    value = content.get(key) or []
    if not isinstance(value, list):
        raise UsageError(f"{named(path, _line(text, key))}: {key} must be a list.")
    return value


def _line(text: str, words: str) -> int | None:
    """Return the line that words stand in, counted from 1."""
    for number, line in enumerate(text.splitlines(), 1):
        if words in line:
            return number
    return None
