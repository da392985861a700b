"""Appending lines to a file that one process alone writes.

A line is in the operating system's hands when `put` returns. It is a plain write at first; where
thousands of lines a second come, it is a copy into a mapped window of the file, which costs less.
Both outlive the process. A window's unused end holds zeros until the file is closed.
"""

import contextlib
import errno
import mmap
import os
import threading
import time
from typing import Callable, Optional

ROOM = 16384
"""Bytes after which is looked how fast lines come; the first window's size."""
_LARGEST_WINDOW = 1 << 20
_SOON_S = 1.0
"""A room that is filled sooner is followed by a window."""
_LATE_S = 30.0
"""A window that is filled later is followed by plain writes."""
_MOST_WRITERS = 100


class Appender:
    """The end of a file.

    Parameters
    ----------
    path
        Without the ``.jsonl``. If another process writes that file it is ``<path>.2.jsonl``, and
        so on.

    Attributes
    ----------
    put
        Appends a line. It raises ValueError if there is no room, or if the file is not open: then
        `make_room` or `open` is to be called. OSError is the file system's.
    """

    def __init__(self, path: str) -> None:
        self.put: Callable[[bytes], object] = _nowhere
        self._base = path
        self._fd = -1
        self._map: Optional[mmap.mmap] = None
        self._offset = 0
        self._size = ROOM
        self._written = 0
        self._since = time.monotonic()
        self._lock = threading.RLock()

    @property
    def is_open(self) -> bool:
        return self._fd >= 0

    def open(self) -> str:
        """Open a file that nobody else writes, cut off what is no whole line's, and return its
        path."""
        path, self._fd = self._claim()
        end = _end_of(self._fd)
        os.ftruncate(self._fd, end)
        if end and os.pread(self._fd, 1, end - 1) != b"\n":
            os.write(self._fd, b"\n")
        self._begin()
        return path

    def make_room(self) -> None:
        """Go on in a new window, or by plain writes where lines come seldom."""
        with self._lock:
            took = time.monotonic() - self._since
            was_fast = self._map is not None and took < _LATE_S
            self._leave_window()
            self._begin()
            if took < _SOON_S or was_fast:
                with contextlib.suppress(OSError, ValueError):  # full, or it maps no files
                    self._enter_window()

    def put_long(self, line: bytes) -> None:
        """Append a line of any length."""
        with self._lock:
            try:
                self.put(line)
            except ValueError:
                self._leave_window()
                self._begin()
                self._write(line)

    def is_long(self) -> bool:
        """Whether reading the file from its end is worth anything."""
        return os.fstat(self._fd).st_size > ROOM

    def sync(self) -> None:
        """Wait until what was written is on the disk, or at the file server."""
        if self._map is not None:
            self._map.flush()
        os.fsync(self._fd)

    def close(self) -> None:
        """Let go of the file, and of the zeros at its end."""
        with self._lock:
            descriptor, self._fd = self._fd, -1
            self.put = _nowhere
            for leave in (self._leave_window, os.close):
                with contextlib.suppress(OSError):
                    leave(descriptor)

    def forget(self) -> None:
        """Let go of a file that a forked process shares with the one that writes it."""
        self.put, self._map, self._lock = _nowhere, None, threading.RLock()
        descriptor, self._fd = self._fd, -1
        if descriptor >= 0:
            os.close(descriptor)

    def _begin(self) -> None:
        """Begin to write plainly."""
        self.put, self._since, self._written = self._write, time.monotonic(), 0

    def _write(self, line: bytes) -> None:
        with self._lock:
            if self._written > ROOM or self._map is not None:
                raise ValueError("it is time to look how fast lines come")
            written = os.write(self._fd, line)
            self._written += written
            if written != len(line):  # a full disk takes a part of a line first
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _enter_window(self) -> None:
        end = os.fstat(self._fd).st_size
        self._offset = end - end % mmap.ALLOCATIONGRANULARITY
        room = self._offset + self._size + mmap.ALLOCATIONGRANULARITY - end
        try:
            if os.write(self._fd, bytes(room)) != room:  # or a later store might find the disk full
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            window = mmap.mmap(self._fd, end + room - self._offset, offset=self._offset)
        except BaseException:
            os.ftruncate(self._fd, end)
            raise
        window.seek(end - self._offset)
        self._map, self.put = window, window.write
        self._size = min(2 * self._size, _LARGEST_WINDOW)

    def _leave_window(self, descriptor: Optional[int] = None) -> None:
        """Close the window, and the file where its lines end."""
        window, self._map = self._map, None
        if window is None:
            self._size = ROOM
            return
        at = window.tell()
        window.seek(0, os.SEEK_END)  # from now on another thread's `put` finds no room
        end = window.find(b"\0", at)
        end = len(window) if end < 0 else end
        window.close()  # the file's lock is held as long as it is mapped
        os.ftruncate(self._fd if descriptor is None else descriptor, self._offset + end)

    def _claim(self) -> "tuple[str, int]":
        number = 1
        while True:
            path = self._base + (".jsonl" if number == 1 else ".%d.jsonl" % number)
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            if _is_ours(descriptor) or number == _MOST_WRITERS:
                return path, descriptor
            os.close(descriptor)
            number += 1


def _nowhere(line: bytes) -> None:
    raise ValueError("the file is not open")


def _end_of(descriptor: int) -> int:
    """Return where a file's zeros begin, which a killed process has left at its end."""
    end = os.fstat(descriptor).st_size
    while end:
        start = max(0, end - _LARGEST_WINDOW)
        kept = os.pread(descriptor, end - start, start).rstrip(b"\0")
        if kept:
            return start + len(kept)
        end = start
    return 0


def _is_ours(descriptor: int) -> bool:
    """Whether no other process writes the file; where files cannot be locked it is taken so."""
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True
    return True
