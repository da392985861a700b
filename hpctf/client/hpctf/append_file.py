"""Appending lines to files, each by one plain write: it outlives the process that made it.

A line that is written whole, to a file opened with O_APPEND, never mixes with those of other
processes of the same host (POSIX write(2); NFS clients hold the file's lock meanwhile). So nothing
rests on locks but who has a file to himself, and nothing is mapped into memory: a file that is
cut short, or a disk that is full, is an error to handle, never a signal.
"""

import contextlib
import errno
import fcntl
import os
import resource
import socket
import threading
from typing import List, Optional

_MOST_TRIED = 16
"""Files of a rank that are tried for one that nobody writes; a further process's is named by its
own id."""
_MOST_OPEN = 32
"""Files that a process holds open; an eighth of what it may open, if that is less."""
_NUMBERS_FROM = 512
"""Descriptors from here on, or from half of the limit: where a script that closes all files (to be
a daemon) opens others, they have small numbers, and none is taken for a journal."""

_open: "List[Appender]" = []
"""Those that are open, in the order in which they were opened."""


class Appender:
    """The end of a file, which may be closed meanwhile: a process keeps few open.

    Parameters
    ----------
    path
        Without the ``.jsonl``. If another process writes that file it is ``<path>.2.jsonl``, and
        so on.

    Attributes
    ----------
    written
        Bytes that `put` has written.
    """

    def __init__(self, path: str) -> None:
        self.written = 0
        self._base = path
        self._path: Optional[str] = None
        self._fd = -1
        self._guard: Optional[socket.socket] = None
        self._lock = threading.RLock()

    @property
    def is_open(self) -> bool:
        return self._fd >= 0

    def put(self, line: bytes) -> None:
        """Append a line.

        Raises
        ------
        OSError
            It is not in the file, or only a part of it is: then the file is to be closed, since
            `open` ends what is cut short. EBADF also says that it was not open.
        """
        with self._lock:
            written = os.write(self._fd, line)
            self.written += written
            if written != len(line):
                self._put_rest(line[written:])

    def open(self) -> str:
        """Open a file that nobody else writes, or the same one again, and return its path.

        A last line that was cut short is ended: it costs itself alone.
        """
        with self._lock:
            _close_some()
            if self._path is None:
                self._path = self._claim()
            else:
                self._fd = _opened(self._path)
                self._is_ours(self._path)  # unless somebody took it meanwhile: then both write it
            _open.append(self)
            end = os.fstat(self._fd).st_size
            if end and os.pread(self._fd, 1, end - 1) != b"\n":
                os.write(self._fd, b"\n")
            return self._path

    def size(self) -> int:
        """Return the file's bytes."""
        return os.fstat(self._fd).st_size

    def sync(self) -> None:
        """Wait until what was written is on the disk, or at the file server."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Let go of the file; it may be opened again."""
        with self._lock:
            descriptor, self._fd = self._fd, -1
            guard, self._guard = self._guard, None
            with contextlib.suppress(ValueError):
                _open.remove(self)
            if guard is not None:
                guard.close()
            if descriptor >= 0:
                with contextlib.suppress(OSError):
                    os.close(descriptor)

    def forget(self) -> None:
        """Let a forked process go of a file that it shares with the one that writes it."""
        self._lock = threading.RLock()
        self.close()
        self._path = None

    def close_unless_busy(self) -> bool:
        """Close the file if no other thread writes it now; return whether that was so."""
        if not self._lock.acquire(blocking=False):
            return False
        try:
            self.close()
        finally:
            self._lock.release()
        return True

    def _put_rest(self, rest: bytes) -> None:
        """Write what a full disk, or a line of gigabytes, has left."""
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except OSError:
                if rest != b"\n":
                    raise
                self.close()  # it is whole: who opens the file again ends it
                return

    def _claim(self) -> str:
        """Open a file that no other process writes, and return its path."""
        number = 1
        while True:
            path = self._base + (".jsonl" if number == 1 else ".%d.jsonl" % number)
            self._fd = _opened(path)
            if self._is_ours(path) or number > _MOST_TRIED:
                return path
            os.close(self._fd)
            self._fd = -1
            number += 1
            if number > _MOST_TRIED:
                number += os.getpid()

    def _is_ours(self, path: str) -> bool:
        """Whether no other process of this host writes the file.

        Where files cannot be locked, as on a Lustre file system that is mounted without, a name
        that the kernel holds for one process at a time (unix(7), abstract sockets) tells it.
        """
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
        except BlockingIOError:
            return False
        except OSError:
            pass
        guard = None
        try:
            found = os.fstat(self._fd)
            guard = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            guard.bind("\0hpctf-journal-%x-%x" % (found.st_dev, found.st_ino))
        except OSError as error:
            if guard is not None:
                guard.close()
            return error.errno != errno.EADDRINUSE
        self._guard = guard
        return True


def _opened(path: str) -> int:
    """Return a descriptor of a file, with a number that scripts seldom come to."""
    low = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        number = fcntl.fcntl(low, fcntl.F_DUPFD_CLOEXEC, min(_NUMBERS_FROM, _limit() // 2))
    except OSError:  # none is left
        return low
    os.close(low)
    return number


def _close_some() -> None:
    """Close files as long as there are too many, the longest open first."""
    most = max(1, min(_MOST_OPEN, _limit() // 8))
    for other in list(_open):
        if len(_open) < most:
            return
        other.close_unless_busy()


def _limit() -> int:
    """Return how many files this process may have open."""
    soft = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    return soft if 0 <= soft < 1 << 30 else 1 << 30
