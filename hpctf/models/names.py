"""What models, their versions and their aliases are called: ``digits``, ``digits:3``,
``digits@champion``."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hpctf.errors import UsageError, shown

LATEST = "latest"
"""The alias that every model has: its highest version."""

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
"""Azure ML's rule."""
_ALIAS = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True)
class Reference:
    """What a person means by a model's name: a version, an alias, or neither: the latest."""

    name: str
    version: int | None = None
    alias: str | None = None

    def __str__(self) -> str:
        if self.alias is not None:
            return f"{self.name}@{self.alias}"
        return self.name if self.version is None else f"{self.name}:{self.version}"


def check_model_name(name: object) -> str:
    """Return a model's name, or refuse it: a folder is named so."""
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            f"The model's name is {shown(name)}, but must consist of letters, digits, '-', '.' and "
            "'_', begin with a letter or digit, and have 255 characters at most."
        )
    return name


def check_alias(alias: object) -> str:
    """Return an alias, or refuse it."""
    if not isinstance(alias, str) or not _ALIAS.fullmatch(alias) or alias == LATEST:
        raise UsageError(
            f"The alias is {shown(alias)}, but must consist of letters, digits, '-', '.' and '_', "
            f"begin with a letter, have 64 characters at most, and not be {LATEST!r}, which is "
            "always the highest version."
        )
    return alias


def check_version(version: object) -> int:
    """Return a version's number, which may be written as text."""
    text = str(version)
    if isinstance(version, bool) or not re.fullmatch("[1-9][0-9]{0,9}", text, re.ASCII):
        raise UsageError(
            f"The model's version is {shown(version)}, but must be a whole number from 1 on."
        )
    return int(text)


def reference(name: object, version: object = None) -> Reference:
    """Return what a name, with or without a version, stands for.

    ``reference("digits", 3)``, ``reference("digits:3")``, ``reference("digits@champion")`` and
    ``reference("digits", "@champion")``.

    Raises
    ------
    UsageError
        It is not a name, or says twice which version.
    """
    if not isinstance(name, str):
        return Reference(check_model_name(name))
    stem, at, alias = name.partition("@")
    stem, colon, number = (stem, "", "") if at else name.partition(":")
    check_model_name(stem)
    if version is not None and (at or colon):
        raise UsageError(
            f"The model {name!r} names its version, and another one is given: {shown(version)}.",
            "Give the version once.",
        )
    if isinstance(version, str) and version.startswith("@"):
        at, alias = "@", version[1:]
    elif version is not None:
        colon, number = ":", str(check_version(version))
    if at:
        return Reference(stem) if alias == LATEST else Reference(stem, alias=check_alias(alias))
    return Reference(stem, check_version(number) if colon else None)
