"""Files that one process holds at a time, also where the file system has no locks."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Callable, Iterator

_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC


def lock(descriptor: int, busy: Callable[[int], object] | None = None) -> None:
    """Lock an open file until it is closed: the system frees a dead holder's.

    Where the file system has no locks, nobody waits for anybody. While somebody else holds it,
    `busy` is called with the descriptor again and again: it waits, or raises. Without, the call
    waits.
    """
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (fcntl.LOCK_NB if busy else 0))
        except BlockingIOError:
            assert busy is not None
            busy(descriptor)
        except OSError:
            return
        else:
            return


@contextlib.contextmanager
def locked(
    path: str | os.PathLike[str], umask: int = 0, busy: Callable[[int], object] | None = None
) -> Iterator[int | None]:
    """Hold the lock that a file of its own stands for, as `lock` does, and yield its descriptor.

    None is yielded, and nobody waits, where the file cannot be written: it may be somebody else's.
    """
    descriptor = None
    with contextlib.suppress(OSError):
        descriptor = os.open(path, _FLAGS, 0o666 & ~umask)
    try:
        if descriptor is not None:
            lock(descriptor, busy)
        yield descriptor
    finally:
        if descriptor is not None:
            os.close(descriptor)
