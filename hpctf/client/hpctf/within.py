"""Opening files of a run: nothing outside the run's folder is read through it.

A run may be somebody else's, and a link in it may lead anywhere: to the reader's own keys, to a
pipe that never answers. So every folder on the way is opened from the one above it, without
following links (openat(2), O_NOFOLLOW); a link is followed here, step by step, as long as it stays
within the run. What was checked is what is opened, whatever is renamed meanwhile.
"""

import errno
import os
import stat
from typing import Any, BinaryIO, Callable, List, Optional

RECORD = "run.json"
"""The file that makes a folder a run's."""

Allowed = Callable[[str], bool]

_MOST_LINKS = 40
"""As many as Linux follows (path_resolution(7))."""

_FOLDER = getattr(os, "O_PATH", os.O_RDONLY) | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC


class NotWithin(FileNotFoundError):
    """A link leads out of the run's folder, or something is not a file: the run has none there."""


def top_of(path: Any) -> Optional[str]:
    """Return the run folder that a path lies in, or None.

    The nearest one, unless the way there from another run's folder leads over a link.
    """
    found = None
    over_link = False
    folder = os.path.dirname(os.path.abspath(path))
    while True:
        if (found is None or over_link) and os.path.lexists(os.path.join(folder, RECORD)):
            found, over_link = folder, False
        over_link = over_link or os.path.islink(folder)
        above = os.path.dirname(folder)
        if above == folder:
            return found
        folder = above


def open_file(path: Any, outside: Optional[Allowed] = None) -> BinaryIO:
    """Open a file for reading bytes; one of a run as the run's folder allows.

    Parameters
    ----------
    outside
        Called with a run's folder: whether a link out of it that the user, or root, has made may
        be followed. By default none may.

    Raises
    ------
    NotWithin
        A link leads out of the run, or the path is not of a file.
    OSError
        As `open` does.
    """
    top = top_of(path)
    if top is None:
        return open(path, "rb")
    return os.fdopen(_open_within(top, os.path.relpath(path, top), outside), "rb")


def is_readable_within(path: Any, outside: Optional[Allowed] = None) -> bool:
    """Return whether a path is of a file that `open_file` opens."""
    try:
        open_file(path, outside).close()
    except OSError:
        return False
    return True


def _open_within(top: str, name: str, outside: Optional[Allowed]) -> int:
    """Return the descriptor of a regular file below `top`."""
    opened = [os.open(top, _FOLDER)]
    waiting = _parts(name)
    links = 0
    try:
        while waiting:
            part = waiting.pop(0)
            if part == "..":
                if len(opened) == 1:
                    raise _not_within(top, name)
                os.close(opened.pop())
                continue

            found = os.stat(part, dir_fd=opened[-1], follow_symlinks=False)
            if not stat.S_ISLNK(found.st_mode):
                opened.append(_step(part, found.st_mode, opened[-1]))
                continue

            target = os.readlink(part, dir_fd=opened[-1])
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), os.path.join(top, name))
            if target.startswith(top + os.sep):  # within, by its whole path
                while len(opened) > 1:
                    os.close(opened.pop())
                waiting = _parts(target[len(top) :]) + waiting
            elif _stays(target, len(opened) - 1):
                waiting = _parts(target) + waiting
            elif found.st_uid in (os.geteuid(), 0) and outside is not None and outside(top):
                here = f"/proc/self/fd/{opened[-1]}"
                opened.append(os.open(os.path.join(here, target, *waiting), _FILE))
                break
            else:
                raise _not_within(top, name)

        if not stat.S_ISREG(os.fstat(opened[-1]).st_mode):
            raise _not_within(top, name)
        return opened.pop()
    finally:
        for descriptor in opened:
            os.close(descriptor)


def _step(name: str, mode: int, folder: int) -> int:
    """Open a folder on the way, or the file at its end; a pipe or a device is never opened."""
    if stat.S_ISDIR(mode):
        return os.open(name, _FOLDER | os.O_NOFOLLOW, dir_fd=folder)
    if not stat.S_ISREG(mode):
        raise _not_within("", name)
    return os.open(name, _FILE | os.O_NOFOLLOW, dir_fd=folder)


def _parts(name: str) -> List[str]:
    return [part for part in name.split(os.sep) if part not in ("", ".")]


def _stays(target: str, depth: int) -> bool:
    """Return whether a link in a folder so deep below the run's leads no higher than the run's."""
    if os.path.isabs(target):
        return False
    for part in _parts(target):
        depth += -1 if part == ".." else 1
        if depth < 0:
            return False
    return True


def _not_within(top: str, name: str) -> NotWithin:
    words = "is not a file within the run's folder, and is not read"
    return NotWithin(errno.ENOENT, words, os.path.join(top, name))
