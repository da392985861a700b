"""Aliases: names that people give to a version of a model, and take to another one.

An alias is a link ``@champion`` beside the versions, which is replaced by rename: whoever reads it
finds the old version or the new one.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from hpctf.common.numbered import is_number
from hpctf.models.names import check_alias

SIGN = "@"


def aliases(folder: Path) -> dict[str, int]:
    """Return the versions of a model's aliases by their names, sorted."""
    found: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        for name in sorted(os.listdir(folder)):
            if name.startswith(SIGN):
                number = version_of(folder, name[1:])
                if number is not None:
                    found[name[1:]] = number
    return found


def version_of(folder: Path, alias: str) -> int | None:
    """Return the version that an alias stands for; None if there is no such alias."""
    try:
        target = os.readlink(folder / f"{SIGN}{alias}")
    except OSError:
        return None
    return int(target) if is_number(target) else None


def set_alias(folder: Path, alias: str, number: int) -> None:
    """Let an alias stand for a version, whatever it stood for before.

    Raises
    ------
    OSError
        The file system refuses.
    """
    link = folder / f"{SIGN}{check_alias(alias)}"
    fresh = folder / f".{alias}.{os.urandom(6).hex()}.tmp"
    with contextlib.suppress(FileExistsError):  # NFS has sent it twice: nobody else has the name
        os.symlink(str(number), fresh)
    try:
        os.rename(fresh, link)
    except FileNotFoundError:
        if version_of(folder, alias) != number:  # else NFS has sent the request twice
            raise
    except OSError:
        os.unlink(fresh)
        raise


def remove_alias(folder: Path, alias: str) -> bool:
    """Remove an alias, and return whether there was one."""
    try:
        os.unlink(folder / f"{SIGN}{check_alias(alias)}")
    except FileNotFoundError:
        return False
    return True
