"""Folders that are numbered 1, 2, 3 ... in a folder, without a gap and without a lock.

A folder is made whole under a hidden name, and then renamed to the next number. rename(2) never
replaces a folder in which there is something, so that of several who want a number one gets it, and
the others go on to the next; whoever dies before the rename has taken none. It holds on every file
system, between hosts, too.

An NFS client that has lost the answer sends its request again, and is told that there is nothing to
rename any more; so after any error it is looked whether the number is one's own by now.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from hpctf.common.folders import remove_tree

HIDDEN = ".tmp-"
"""What the names of folders begin with that are being made."""

ABANDONED_S = 86_400.0
"""After how many seconds a folder that is being made was left behind by somebody who died."""

_LOOKS, _LOOK_AGAIN_S = 5, 0.2
"""How often, and after how long, it is looked who has a number: NFS may show a new name late."""


def numbers(folder: str | os.PathLike[str]) -> list[int]:
    """Return the numbers that are taken, in their order; none if there is no such folder."""
    try:
        names = os.listdir(folder)
    except (FileNotFoundError, NotADirectoryError):
        return []
    return sorted(int(name) for name in names if is_number(name))


def is_number(name: str) -> bool:
    """Return whether a name is a number's, as this module writes it."""
    return name.isascii() and name.isdecimal() and not name.startswith("0")


def hidden_name() -> str:
    """Return a name that nobody has, for a folder that is being made."""
    return HIDDEN + os.urandom(8).hex()


def take_number(
    made: Path,
    is_ours: Callable[[Path], bool],
    may_follow: Callable[[int], None] | None = None,
) -> int:
    """Rename a folder, in which there must be something, to the next number beside it.

    Parameters
    ----------
    is_ours
        Whether the folder of a number is the one that was `made`, by what is in it.
    may_follow
        Called before each try with the number before the one to take; what it raises ends the call.
        So what is written may hang on all that was written before.

    Raises
    ------
    OSError
        The file system refused: no number was taken.
    """
    into = made.parent
    number = max(numbers(into), default=0) + 1
    while True:
        if may_follow is not None:
            may_follow(number - 1)
        target = into / str(number)
        try:
            os.rename(made, target)
        except OSError:
            if _came_to_be(target, made, is_ours):
                return number
            if not os.path.lexists(target):
                raise
            number += 1
        else:
            return number


def _came_to_be(target: Path, made: Path, is_ours: Callable[[Path], bool]) -> bool:
    """Whether a number is ours although the rename has said that it is not."""
    for _ in range(_LOOKS):
        if is_ours(target):
            return True
        if os.path.lexists(made):
            return False
        time.sleep(_LOOK_AGAIN_S)
    return False


def remove_abandoned(folder: Path, older_than_s: float = ABANDONED_S) -> None:
    """Remove one's own folders in it whose making was cut short."""
    for path in _abandoned(folder, time.time() - older_than_s):
        with contextlib.suppress(OSError):
            remove_tree(path)


def _abandoned(folder: Path, before: float) -> Iterator[Path]:
    for path in folder.glob(f"{HIDDEN}*"):
        with contextlib.suppress(OSError):
            found = path.lstat()
            if found.st_uid == os.geteuid() and found.st_mtime < before:
                yield path
