"""Copying a file or folder to a node's own disk: whole, as it was at the look, or not at all."""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from typing import Any

from hpctf.errors import StagingError, shown
from hpctf.node.staging.area import NoPlace
from hpctf.node.staging.sources import FILE, FOLDER, Entry, Source, extents

THREADS = 8
"""Files that are copied at a time: a shared file system takes its time to open each."""

_PIECE = 4 << 20
_POLL_S = 1.0


class Copier:
    """Copies a source; `beat` is called about once a second, and may end it by raising."""

    def __init__(self, source: Source, to: str, beat: Callable[[int], None]) -> None:
        self._source = source
        self._to = to
        self._beat = beat
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._copied = 0

    def copy(self, *, read_only: bool = False) -> None:
        """Copy all of it to `to`, which must not be there yet.

        Raises
        ------
        StagingError
            The source changed meanwhile, cannot be read, or the disk is full.
        """
        for entry in self._source.entries:
            if entry.kind == FOLDER:
                self._writing(entry, os.mkdir, 0o700)
        files = iter(self._source.files)
        with ThreadPoolExecutor(THREADS) as pool:
            working = {pool.submit(self._copy_files, files) for _ in range(THREADS)}
            try:
                while working:
                    done, working = wait(working, _POLL_S, FIRST_EXCEPTION)
                    for one in done:
                        one.result()
                    self._beat(self._copied)
            except BaseException:
                self._stop.set()
                raise
        self._finish(read_only)

    def _copy_files(self, files: Iterator[Entry]) -> None:
        """Copy files until none is left; several threads share them out."""
        while not self._stop.is_set():
            with self._lock:
                entry = next(files, None)
            if entry is None:
                return
            self._copy_file(entry)

    def _finish(self, read_only: bool) -> None:
        """Make the links, and give all the source's times; a folder that changes is noticed."""
        for entry in reversed(self._source.entries):
            if entry.kind == FILE:
                if read_only:
                    os.chmod(self._place(entry), entry.mode & 0o500 | 0o400)
            elif entry.kind == FOLDER:
                self._check_folder(entry)
                os.utime(self._place(entry), ns=(entry.mtime_ns, entry.mtime_ns))
                if read_only:
                    os.chmod(self._place(entry), 0o500)
            else:
                self._writing(entry, lambda path, text: os.symlink(text, path), entry.source)

    def _check_folder(self, entry: Entry) -> None:
        try:
            same = os.stat(entry.source).st_mtime_ns == entry.mtime_ns
        except OSError:
            same = False
        if not same:
            raise _changed(entry.source)

    def _copy_file(self, entry: Entry) -> None:
        try:
            reading = os.open(entry.source, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise _changed(entry.source) from None
        except OSError as error:
            raise _cannot_read(entry.source, error) from None
        try:
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            writing = self._writing(entry, os.open, flags, 0o600)
            try:
                self._check_file(reading, entry)
                for start, end in extents(reading, entry.size):
                    self._copy_part(reading, writing, start, end, entry)
                self._check_file(reading, entry)
                os.ftruncate(writing, entry.size)
                os.fchmod(writing, entry.mode & 0o700 | 0o400)
                os.utime(writing, ns=(entry.mtime_ns, entry.mtime_ns))
            finally:
                os.close(writing)
        finally:
            os.close(reading)

    def _copy_part(self, reading: int, writing: int, start: int, end: int, entry: Entry) -> None:
        while start < end and not self._stop.is_set():
            try:
                piece = memoryview(os.pread(reading, min(_PIECE, end - start), start))
            except OSError as error:
                raise _cannot_read(entry.source, error) from None
            if not piece:
                raise _changed(entry.source)
            while piece:  # a disk that becomes full takes a part first
                try:
                    number = os.pwrite(writing, piece, start)
                except OSError as error:
                    raise self._cannot_write(error) from None
                piece, start = piece[number:], start + number
                with self._lock:
                    self._copied += number

    def _check_file(self, reading: int, entry: Entry) -> None:
        found = os.fstat(reading)
        if (found.st_size, found.st_mtime_ns) != (entry.size, entry.mtime_ns):
            raise _changed(entry.source)

    def _writing(self, entry: Entry, call: Callable[..., Any], *words: Any) -> Any:
        """Call something with the place of an entry's copy, which a full disk may refuse."""
        try:
            return call(self._place(entry), *words)
        except OSError as error:
            raise self._cannot_write(error) from None

    def _cannot_write(self, error: OSError) -> NoPlace:
        why = f"cannot be written: {error.strerror}"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            why = f"has become full: {error.strerror}"
        return NoPlace(
            f"{shown(self._source.path)} cannot be staged: {os.path.dirname(self._to)!r} on node "
            f"{os.uname().nodename} {why}, after {self._copied / 1e6:.1f} of "
            f"{self._source.needed / 1e6:.1f} MB.",
            NO_ROOM,
        )

    def _place(self, entry: Entry) -> str:
        return os.path.join(self._to, entry.path) if entry.path else self._to


NO_ROOM = (
    "Choose nodes with a larger disk, another folder (--set staging.folder=...), or let nodes "
    "without room read the shared folder (--set staging.fallback=shared)."
)


def _changed(path: str) -> StagingError:
    return StagingError(
        f"{shown(path)} changed while it was being copied: the nodes might not train on the same.",
        "Submit the run again once nobody writes there.",
    )


def _cannot_read(path: str, error: OSError) -> StagingError:
    return StagingError(
        f"{shown(path)} cannot be staged: {error.strerror}.",
        "See whether the compute nodes can read it.",
    )
