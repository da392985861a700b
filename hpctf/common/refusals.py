"""What the operating system refuses, in one sentence: for errors that nobody foresaw."""

from __future__ import annotations

import errno
import os
import stat

from hpctf.common.files import cannot_write
from hpctf.common.processes import name_of_user
from hpctf.errors import RunFolderError

_REASONS = {
    errno.ENOENT: "it does not exist",
    errno.ENOTDIR: "a part of its path is not a folder",
    errno.EISDIR: "it is a folder",
    errno.EROFS: "its file system is read-only",
    errno.ELOOP: "links in its path lead round in a circle",
    errno.ENAMETOOLONG: "its name is too long",
    errno.ESTALE: "it was removed on its server meanwhile",
}


def refused(error: OSError) -> RunFolderError:
    """Return an error of the operating system's as one of hpctf's: which file, why, what to do."""
    path = error.filename2 or error.filename
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return cannot_write(_name(path) if path is not None else os.getcwd(), error)
    reason = _REASONS.get(error.errno or 0, error.strerror or str(error) or type(error).__name__)
    if path is None or isinstance(path, int):
        return RunFolderError(
            f"The operating system refused: {reason}.",
            "Check that you may read and write the files that the command names.",
        )
    name = _name(path)
    if error.errno not in (errno.EACCES, errno.EPERM):
        return RunFolderError(f"Cannot use {name!r}: {reason}.")
    return RunFolderError(
        f"Cannot use {name!r}: {reason}{_whose(name)}.",
        "Ask its owner to give you access (chmod), or choose another file or folder.",
    )


def _name(path: object) -> str:
    return os.fsdecode(path) if isinstance(path, (bytes, str, os.PathLike)) else str(path)


def _whose(name: str) -> str:
    """Return whose the file is that is in the way: it, or the first folder above that is closed."""
    path = os.path.abspath(name)
    above = [path]
    while os.path.dirname(above[0]) != above[0]:
        above.insert(0, os.path.dirname(above[0]))
    for part in above:
        try:
            found = os.stat(part)
        except OSError:
            return ""
        if part == path or (stat.S_ISDIR(found.st_mode) and not os.access(part, os.X_OK)):
            it = "it" if part == path else repr(part)
            owner = "you" if found.st_uid == os.geteuid() else name_of_user(found.st_uid)
            return f": {it} belongs to {owner} (mode {stat.S_IMODE(found.st_mode):o})"
    return ""
