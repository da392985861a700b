"""The journal of a rank: one JSON record a line, each written at once, by one process a file.

What `append` and `scalar` were given is in the operating system's hands when they return: it stays
if the process is killed in the next moment. Nothing here ends a training: what cannot be written
is counted, told once, and put on record as soon as there is room again.
"""

import errno
import json
import os
import sys
import threading
from time import time
from typing import Any, Dict, Optional

from .appending import ROOM, Appender
from .records import PROPERTY, Key, key_of, last_lines
from .values import LARGEST

_LONGEST_IN_DIGEST = 2048
_TICK_S = 0.001


class Journal:
    """A file that records are appended to, by any number of threads.

    Parameters
    ----------
    path
        Without the ``.jsonl``.
    attempt
        How often the run's job was started again.
    """

    def __init__(self, path: str, attempt: int = 0) -> None:
        self._path = path
        self._attempt = attempt
        self._file = Appender(path)
        self._is_introduced = False
        self._lock = threading.RLock()
        self._heads: Dict[str, str] = {}
        self._last: Dict[Key, bytes] = {}
        self._rooms_to_skip = 0
        self._lost = 0
        self._stamp = ""
        self._stamped = 0.0
        os.register_at_fork(after_in_child=self._forked)

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
        try:
            self._file.put(line)
        except (ValueError, OSError):
            self._write(line)
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
        except (ValueError, OSError):
            self._write(line)

    def flush(self) -> None:
        """Put all that was written on the disk, or on the file server."""
        with self._lock:
            if self._file.is_open:
                try:
                    self._file.sync()
                except OSError as error:
                    self._complain(error)

    def close(self) -> None:
        """Leave the file so that its last values are found at its end; more may be appended."""
        with self._lock:
            if not self._file.is_open:
                return
            try:
                if self._file.is_long():
                    self._put_surely(self._digest())
            except OSError as error:
                self._complain(error)
            self._file.close()

    def _write(self, line: bytes) -> None:
        """Write a line for which there is no room, or no file yet."""
        with self._lock:
            try:
                self._put_surely(line)
            except OSError as error:
                self._lost += 1
                self._complain(error)
                self._file.close()  # whoever opens it sees whether its last line is whole
                return
            if self._lost:
                lost, self._lost = self._lost, 0
                self.append({"lost": lost})

    def _put_surely(self, line: bytes) -> None:
        """Append a line, opening the file or making room as it takes.

        Raises
        ------
        OSError
            The line, or a part of it, is not in the file.
        """
        if not self._file.is_open:
            self._open()
        try:
            self._put_or_make_room(line)
        except OSError as error:
            if error.errno != errno.EBADF:  # as where a script closes all files, to be a daemon
                raise
            self._file.close()
            self._open()
            self._file.put_long(line)

    def _put_or_make_room(self, line: bytes) -> None:
        try:
            self._file.put(line)
        except ValueError:
            self._file.make_room()
            self._file.put_long(self._digest_if_due() + line)

    def _open(self) -> None:
        """Open the file, and say who writes it if this process has not done so."""
        path = self._file.open()
        if self._is_introduced:
            return
        self._last = {**last_lines(path), **self._last}
        who = {"attempt": self._attempt, "host": os.uname().nodename, "pid": os.getpid()}
        self._file.put_long(_line({"opened": who, "time": round(time(), 3)}))
        self._is_introduced = True

    def _digest_if_due(self) -> bytes:
        """Return a digest, but the later the longer the one before was."""
        if self._rooms_to_skip:
            self._rooms_to_skip -= 1
            return b""
        digest = self._digest()
        self._rooms_to_skip = len(digest) // ROOM
        return digest

    def _digest(self) -> bytes:
        """Return the last record of each name, as one line."""
        lines = [line.rstrip(b"\n") for line in list(self._last.values())]
        return b'{"digest":[' + b",".join(lines) + b"]}\n"

    def _complain(self, error: OSError) -> None:
        if self._lost <= 1:
            words = "hpctf: {}.jsonl cannot be written: {}. The training goes on, unrecorded."
            print(words.format(self._path, error.strerror), file=sys.stderr, flush=True)

    def _forked(self) -> None:
        """Let a forked process, such as a worker of a data pipeline, write a file of its own."""
        self._lock = threading.RLock()
        self._file.forget()
        self._is_introduced = False
        self._last = {}


def _line(record: Dict[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"
