"""Reading conda packages: lists of them, and ``environment.yml`` files."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctf.common.absence import absence_of
from hpctf.common.secrets import hidden, is_secret
from hpctf.environment.requirements import Reader
from hpctf.errors import UsageError, did_you_mean, shown
from hpctf.site.yaml_files import NotReadable, named, parse_yaml, read_text

_SPEC = re.compile(
    r"""^(?:[^\[]+::)?               # channel: a name, a folder, an address
        (?P<name>[A-Za-z0-9_][\w.-]*)
        (?:\s*(?P<operator>==?|[<>!~]=?|\s)\s*(?P<version>[\w.*+!,<>=|~-]+(?:\s[\w*]+)?))?
        (?:\s*\[.*\])?$""",
    re.VERBOSE,
)
_KNOWN = ("name", "channels", "dependencies", "prefix", "variables")


@dataclass(frozen=True)
class CondaPackages:
    """What was asked of conda.

    Parameters
    ----------
    packages
        Match specifications, as conda reads them.
    channels
        Those that the file names; empty: the site's.
    python
        The version of Python among the packages, ``3.11``; empty if none is.
    names
        The packages' names, in lower case.
    """

    packages: tuple[str, ...] = ()
    channels: tuple[str, ...] = ()
    python: str = ""
    names: frozenset[str] = frozenset()
    variables: tuple[tuple[str, str], ...] = ()


def conda_packages(
    packages: Sequence[str], file: str | None, base: Path, pip: Reader
) -> CondaPackages | None:
    """Return what a list and a file ask of conda; None if there is neither.

    `pip` takes what stands in the file's ``pip:`` section.
    """
    if not packages and not file:
        return None
    specs = [(f"conda_packages[{i}]", _seen_from(base, text)) for i, text in enumerate(packages)]
    channels: list[str] = []
    variables: dict[str, str] = {}
    if file:
        path = Path(os.path.abspath(base / os.path.expanduser(file)))
        more, channels, variables = _file(path, pip)
        specs += more
    found: dict[str, None] = {}
    names: set[str] = set()
    python = ""
    for where, text in specs:
        matched = _SPEC.match(text.strip())
        if matched is None:
            raise UsageError(
                f"{where}: {shown(text)} is not a conda package.",
                "They look like NAME, NAME=1.2 or CHANNEL::NAME>=1.",
            )
        name = matched["name"].lower()
        names.add(name)
        if name == "python":
            version, _, build = (matched["version"] or "").partition("=")
            python = _python(where, text, matched["operator"], version or None, python)
            if build or "::" in text:  # as `conda env export` writes it
                found[text.strip()] = None
        else:
            found[text.strip()] = None
    settings = tuple(sorted(variables.items()))
    return CondaPackages(tuple(found), tuple(channels), python, frozenset(names), settings)


def package_name(text: str) -> str:
    """Return the name of a package of `conda_packages`, in lower case."""
    matched = _SPEC.match(text.strip())
    return matched["name"].lower() if matched else ""


def _seen_from(base: Path, text: str) -> str:
    """Return a channel, or a package with its channel, whose folder is seen from another one."""
    if not text.startswith(("./", "../")):
        return text
    channel, colons, rest = text.partition("::")
    return f"{os.path.abspath(base / channel)}{colons}{rest}"


def _python(where: str, text: str, operator: str | None, version: str | None, known: str) -> str:
    exact = re.fullmatch(r"(3\.\d+(?:\.\d+)?)(\.\*)?", version or "")
    if version is None:
        return known
    if exact is None or (operator or "").strip() not in ("=", "=="):
        raise UsageError(
            f"{where}: {shown(text)}: hpctf needs to know which Python it will be.",
            "Write python=3.11.",
        )
    if known and known != exact[1]:
        raise UsageError(
            f"{where}: {shown(text)}, but python={known} is requested, too.",
            "Name one version of Python.",
        )
    return exact[1]


def _file(path: Path, pip: Reader) -> tuple[list[tuple[str, str]], list[str], dict[str, str]]:
    """Return the specifications of an ``environment.yml`` with where they stand, its channels, and
    its variables."""
    text, content = read_conda_file(path)

    def where(words: object) -> str:
        lines = enumerate(text.splitlines(), 1)
        return named(path, next((number for number, line in lines if str(words) in line), None))

    for key in content:
        if key not in _KNOWN:
            raise UsageError(
                f"{where(key)}: {shown(key)} is not read by hpctf."
                f"{did_you_mean(str(key), list(_KNOWN))}",
                f"It reads: {', '.join(_KNOWN)}.",
            )
    specs: list[tuple[str, str]] = []
    for item in _list(content, "dependencies", where):
        if isinstance(item, dict) and set(item) == {"pip"}:
            for line in _list(item, "pip", where):
                if not isinstance(line, str):
                    raise UsageError(
                        f"{where(line)}: {shown(line)} is not a requirement.",
                        "Write it as pip does: name==version.",
                    )
                pip.entry(line.strip(), where(line), path.parent)
        elif not isinstance(item, str):
            raise UsageError(
                f"{where(item)}: {shown(item)} is not a conda package.",
                "Write it as conda does: name=version.",
            )
        elif item != "pip":  # it is always there
            specs.append((where(item), _seen_from(path.parent, item)))
    names = [str(name) for name in _list(content, "channels", where)]
    channels = [_seen_from(path.parent, name) for name in names if name != "nodefaults"]
    return specs, channels, _variables(content, where)


def read_conda_file(path: Path) -> tuple[str, dict[str, Any]]:
    """Return the text of an ``environment.yml``, and what it says.

    Raises
    ------
    UsageError
        It is not there, or is not a YAML mapping.
    """
    try:
        text = read_text(path)
        content = parse_yaml(text)
    except FileNotFoundError:
        raise UsageError(
            f"The conda file {named(path)} {absence_of(path)}.",
            "Check the path of --conda-file (conda_dependencies_file).",
        ) from None
    except NotReadable as error:
        raise UsageError(error.told("conda file", path)) from None
    if not isinstance(content, dict):
        raise UsageError(
            f"The conda file {named(path)} is not a mapping.",
            "It begins with dependencies: or name:.",
        )
    return text, content


def _variables(content: dict[str, Any], where: Callable[[object], str]) -> dict[str, str]:
    said = content.get("variables") or {}
    scalars = (str, int, float, bool)
    if not isinstance(said, dict) or not all(isinstance(v, scalars) for v in said.values()):
        raise UsageError(f"{where('variables')}: variables must map names to texts.")
    found = {str(name): str(value) for name, value in said.items()}
    for name, value in found.items():
        if is_secret(name) or hidden(value) != value:
            raise UsageError(
                f"{where(name)}: the variable {name} looks like a secret, and others may read an "
                "environment's files.",
                "Give it to the run alone: environment_variables, or --env.",
            )
    return found


def _list(content: dict[str, Any], key: str, where: Callable[[object], str]) -> list[Any]:
    value = content.get(key) or []
    if not isinstance(value, list):
        raise UsageError(f"{where(key)}: {key} must be a list.")
    return value
