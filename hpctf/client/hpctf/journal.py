"""The journal of a rank: one JSON record a line, each written at once, by one process a file.

What `append` and `scalar` were given is in the operating system's hands when they return: it stays
if the process is killed in the next moment. Nothing here ends a training: what cannot be written
is counted, told once, and put on record as soon as there is room again.
"""

import contextlib
import errno
import json
import os
import sys
import threading
import weakref
from time import time
from typing import Any, Callable, Dict, Optional

from .append_file import Appender
from .journal_reader import PROPERTY, Key, key_of, last_lines
from .values import LARGEST

_ROOM = 16384
"""Bytes after which a digest follows, unless the one before was longer."""
_LONGEST_IN_DIGEST = 2048
_TICK_S = 0.001

_all: "weakref.WeakSet[Journal]" = weakref.WeakSet()


class Journal:
    """A file that records are appended to, by any number of threads.

    Parameters
    ----------
    path
        Without the ``.jsonl``.
    attempt
        How often the run's job was started again.
    prepare
        Makes the folder, where it is not there yet.
    """

    def __init__(
        self, path: str, attempt: int = 0, prepare: Optional[Callable[[], None]] = None
    ) -> None:
        self._path = path
        self._attempt = attempt
        self._prepare = prepare
        self._file = Appender(path)
        self._is_introduced = False
        self._lock = threading.RLock()
        self._heads: Dict[str, str] = {}
        self._last: Dict[Key, bytes] = {}
        self._digest_at = _ROOM
        self._lost = 0
        self._stamp = ""
        self._stamped = 0.0
        _all.add(self)

    def scalar(self, name: str, value: Any, step: Optional[int] = None) -> bool:
        """Append an int or a finite float under a name that `append` has seen before; return
        whether that was so. It is the one call that trainings make thousands of times a second."""
        kind = value.__class__
        if kind is float:
            if value * 0.0 != 0.0:  # as NaN's is not
                return False
        elif kind is not int or not -LARGEST <= value <= LARGEST:
            return False
        try:
            head = self._heads[name]
        except (KeyError, TypeError):
            return False
        now = time()
        if not 0.0 <= now - self._stamped < _TICK_S:  # clocks are set back, too
            self._stamped, self._stamp = now, ',"time":%.3f}\n' % now
        if step is None:
            line = f"{head}{value!r}{self._stamp}".encode()
        elif step.__class__ is int and -LARGEST <= step <= LARGEST:
            line = f'{head}{value!r},"step":{step}{self._stamp}'.encode()
        else:
            return False
        self._last[name] = line
        file = self._file
        try:
            file.put(line)
        except OSError:
            self._write(line)
        if file.written >= self._digest_at:
            self._put_digest()
        return True

    def append(self, record: Dict[str, Any]) -> None:
        """Append any record that JSON can hold."""
        line = _line({**record, "time": round(time(), 3)})
        name = record.get("name")
        if name is not None and name not in self._heads:
            self._heads[name] = '{"name":%s,"value":' % json.dumps(name)
        key = key_of(record)
        if key is not None and len(line) <= _LONGEST_IN_DIGEST:
            first_stays = key[0] == PROPERTY and key in self._last
            self._last[key] = self._last[key] if first_stays else line
        try:
            self._file.put(line)
        except OSError:
            self._write(line)
        if self._lost:
            self._put_lost()
        if self._file.written >= self._digest_at:
            self._put_digest()

    def lose(self, error: OSError, what: str) -> None:
        """Count what could not be kept, and tell it once; `what` names it."""
        with self._lock:
            self._lost += 1
            if self._lost == 1:
                _complain(what, error)

    def flush(self) -> None:
        """Put all that was written on the disk, or on the file server."""
        with self._lock:
            if self._file.is_open:
                try:
                    self._file.sync()
                except OSError as error:
                    if self._lost == 0 and error.errno != errno.EBADF:
                        _complain(self._name, error)

    def close(self) -> None:
        """Leave the file so that its last values are found at its end; more may be appended."""
        with self._lock:
            if self._lost:
                self._put_lost()
            if self._file.is_open:
                with contextlib.suppress(OSError):  # it is only found less soon
                    if self._file.size() > _ROOM:
                        self._file.put(self._digest())
            self._file.close()

    @property
    def _name(self) -> str:
        return self._path + ".jsonl"

    def _write(self, line: bytes) -> None:
        """Write a line to a file that is not open, or that has just refused it."""
        with self._lock:
            try:
                self._put_surely(line)
            except OSError as error:
                self._file.close()  # whoever opens it sees whether its last line is whole
                self.lose(error, self._name)
                return
            if self._lost:
                self._put_lost()

    def _put_surely(self, line: bytes) -> None:
        """Append a line to the file, opened anew: it may have been closed by a script that closes
        all files, to be a daemon, or have gone stale."""
        self._file.close()
        try:
            path = self._file.open()
        except FileNotFoundError:
            if self._prepare is None:
                raise
            self._prepare()
            path = self._file.open()
        if not self._is_introduced:
            self._introduce(path)
        self._file.put(line)

    def _introduce(self, path: str) -> None:
        """Say who writes the file, which may hold what an earlier process wrote."""
        with contextlib.suppress(OSError):
            self._last = {**last_lines(path), **self._last}
        who = {"attempt": self._attempt, "host": os.uname().nodename, "pid": os.getpid()}
        self._file.put(_line({"opened": who, "time": round(time(), 3)}))
        self._is_introduced = True

    def _put_lost(self) -> None:
        """Put on record how many records are lost, once there is room for that."""
        with self._lock:
            try:
                self._file.put(_line({"lost": self._lost, "time": round(time(), 3)}))
                self._lost = 0
            except OSError:
                self._file.close()

    def _put_digest(self) -> None:
        """Append a digest, and have the next one follow the later the longer it was."""
        with self._lock:
            if self._file.written < self._digest_at:
                return  # another thread did
            digest = self._digest()
            self._digest_at = self._file.written + max(_ROOM, len(digest)) + len(digest)
            try:
                self._file.put(digest)
            except OSError:
                self._file.close()

    def _digest(self) -> bytes:
        """Return the last record of each name, as one line."""
        lines = [line.rstrip(b"\n") for line in list(self._last.values())]
        return b'{"digest":[' + b",".join(lines) + b"]}\n"

    def forked(self) -> None:
        """Let a forked process, such as a worker of a data pipeline, write a file of its own."""
        self._lock = threading.RLock()
        self._file.forget()
        self._is_introduced = False
        self._last = {}


def _forked() -> None:
    for journal in list(_all):
        journal.forked()


os.register_at_fork(after_in_child=_forked)


def _complain(what: str, error: OSError) -> None:
    """Say what cannot be kept, if there is anybody to hear it."""
    words = f"hpctf: {what} cannot be written: {error.strerror or error}."
    with contextlib.suppress(OSError, ValueError):  # stderr may be closed, or full itself
        print(words, "The training continues, unrecorded.", file=sys.stderr, flush=True)


def _line(record: Dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"
