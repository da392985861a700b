"""What keeps a path from being a file or folder that can be read, in words for a message."""

from __future__ import annotations

import errno
import os
import stat

_KINDS = (
    (stat.S_ISFIFO, "a named pipe"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
)


def problem_of(path: str | os.PathLike[str]) -> str | None:
    """Return what is wrong with a path, such as ``is a link to 'x', which does not exist``: the
    words follow its name in a sentence. None: it is a file or folder that can be read."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        return _absence(os.fspath(path), error)
    for is_one, kind in _KINDS:
        if is_one(mode):
            return f"is {kind}, not a file or folder"
    needed = os.R_OK | os.X_OK if stat.S_ISDIR(mode) else os.R_OK
    return None if os.access(path, needed) else "may not be read by you"


def absence_of(path: str | os.PathLike[str]) -> str:
    """Return why there is no file or folder at a path, as `problem_of` says it."""
    return problem_of(path) or "does not exist"


def _absence(path: str, error: OSError | ValueError) -> str:
    number = error.errno if isinstance(error, OSError) else None
    if number == errno.ELOOP:
        return "cannot be reached: links in its path lead round in a circle"
    if number == errno.EACCES:
        return f"cannot be reached: you may not look into {_closed(path)!r}"
    if number not in (errno.ENOENT, errno.ENOTDIR, None):
        return f"cannot be reached: {os.strerror(number or 0)}"
    if os.path.islink(path):
        return f"is a link to {os.readlink(path)!r}, which does not exist"
    for folder in _above(path):
        if os.path.islink(folder) and not os.path.exists(folder):
            target = os.readlink(folder)
            return f"does not exist: {folder!r} is a link to {target!r}, which does not exist"
        if os.path.lexists(folder) and not os.path.isdir(folder):
            return f"does not exist: {folder!r} is not a folder"
    return "does not exist"


def _closed(path: str) -> str:
    """Return the first folder above a path that cannot be searched."""
    return next((one for one in _above(path) if not os.access(one, os.X_OK)), path)


def _above(path: str) -> list[str]:
    """Return the folders above a path, the topmost first."""
    found: list[str] = []
    folder = os.path.dirname(path)
    while folder and folder not in found:
        found.insert(0, folder)
        folder = os.path.dirname(folder)
    return found
