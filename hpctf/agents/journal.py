"""What agents share: one file to which each of them appends, whatever kills it.

The file has one JSON document a line, as Optuna's own ``JournalFileBackend`` writes it, so that
``optuna-dashboard`` reads it as well. What differs:

- **A torn last line costs nothing.** Who appends cuts it off first. After Optuna's backend appends
  to one, the study cannot be opened any more.
- **A dead holder of the lock is passed over** (`hpctf.common.link_locks`), at once on its own
  machine, and the lock works where the file system has none.
- **A full disk leaves the journal as it was**, and the error says so.

The class has the methods of Optuna's public ``BaseJournalBackend`` and needs no Optuna itself
(`hpctf.tuning.optuna_store` makes it one).
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
from collections.abc import Iterator
from typing import Any

from hpctf.common.files import mode_beside
from hpctf.common.link_locks import PATIENCE_S, link_locked
from hpctf.common.notes import notify
from hpctf.errors import RunFolderError

LOCK = ".locks"
"""Ends the name of the lock's folder; what Optuna's own backend uses ends in ``.lock``."""

_BLOCK = 1 << 16
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Journal:
    """A file of records that several processes append to.

    Parameters
    ----------
    path
        The file; it is made at the first append. The lock is the folder ``<path>.locks`` beside it.
    patience_s
        After how many seconds a lock's holder on another machine counts as dead.
    """

    def __init__(self, path: str | os.PathLike[str], patience_s: float = PATIENCE_S) -> None:
        self.path = os.fspath(path)
        self.patience_s = patience_s
        self._read = (0, 0)
        """How many records have been read, and where the next one begins."""
        self._noted: set[int] = set()
        self._is_held = False

    @contextlib.contextmanager
    def held(self) -> Iterator[None]:
        """Hold the lock for a block that reads, decides and appends: nobody else appends meanwhile.

        Raises
        ------
        RunFolderError
            The lock cannot be written.
        """
        try:
            with link_locked(self.path + LOCK, self.patience_s):
                self._is_held = True
                try:
                    yield
                finally:
                    self._is_held = False
        except OSError as error:
            raise self._refused(error) from error

    def read_logs(self, log_number_from: int) -> list[dict[str, Any]]:
        """Return the records from a number on: 0 is the first.

        A last line that is not whole yet is left for later. A whole line that is not JSON, which a
        crash of the file server may leave, is passed over with a note.
        """
        number, offset = self._read if self._read[0] <= log_number_from else (0, 0)
        try:
            with open(self.path, "rb") as stream:
                stream.seek(offset)
                text = stream.read()
        except FileNotFoundError:
            return []

        whole = text[: text.rfind(b"\n") + 1]
        records = []
        at = offset
        for line in whole.split(b"\n")[:-1]:
            record = self._parse(line, at)
            at += len(line) + 1
            if record is not None:
                if number >= log_number_from:
                    records.append(record)
                number += 1
        self._read = (number, at)
        return records

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        """Append records: all of them, or none.

        Raises
        ------
        RunFolderError
            The disk is full, or the file cannot be written.
        """
        lines = [json.dumps(record, separators=(",", ":")) + "\n" for record in logs]
        data = "".join(lines).encode()
        with contextlib.nullcontext() if self._is_held else self.held():
            try:
                descriptor = os.open(self.path, _FLAGS, mode_beside(self.path))
                try:
                    _append(descriptor, data)
                finally:
                    os.close(descriptor)
            except OSError as error:
                raise self._refused(error) from error

    def _parse(self, line: bytes, offset: int) -> dict[str, Any] | None:
        try:
            record = json.loads(line)
        except ValueError:
            record = None
        if isinstance(record, dict):
            return record
        if offset not in self._noted:
            self._noted.add(offset)
            notify(f"{self.path} has a damaged line at byte {offset:,}; it is ignored.")
        return None

    def _refused(self, error: OSError) -> RunFolderError:
        if error.errno in _FULL:
            return RunFolderError(
                f"Cannot write to the journal {self.path}: {error.strerror}. The journal is as "
                "it was before.",
                "Free some space; then the run continues.",
            )
        return RunFolderError(
            f"Cannot write to the journal {self.path}: {error.strerror or error}.",
            "Make room there, or make its folder writable; what the journal holds "
            "already is not lost.",
        )


def _append(descriptor: int, data: bytes) -> None:
    """Append data to an open file behind its last whole line, or leave the file as it was."""
    end = _end_of_whole_lines(descriptor)
    if end < os.fstat(descriptor).st_size:
        os.ftruncate(descriptor, end)
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
        os.fsync(descriptor)
    except OSError:
        with contextlib.suppress(OSError):  # then the next one to append cuts it off
            os.ftruncate(descriptor, end)
        raise


def _end_of_whole_lines(descriptor: int) -> int:
    """Return where the last whole line ends."""
    end = os.fstat(descriptor).st_size
    while end > 0:
        begin = max(0, end - _BLOCK)
        newline = os.pread(descriptor, end - begin, begin).rfind(b"\n")
        if newline >= 0:
            return begin + newline + 1
        end = begin
    return 0
