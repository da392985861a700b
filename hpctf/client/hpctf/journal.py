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
import time
from typing import Any, Dict, Optional

from .records import PROPERTY, Key, key_of, last_lines

_DIGEST_EVERY = 16384
"""Bytes from one digest to the next: the last values are read from the end of a file."""
_LONGEST_IN_DIGEST = 2048
_MOST_WRITERS = 100


class Journal:
    """A file that records are appended to, by any number of threads.

    Parameters
    ----------
    path
        Without the ``.jsonl``. A second process that writes the same journal has a file of its own,
        ``<path>.2.jsonl`` and so on.
    attempt
        How often the run's job was started again.
    """

    def __init__(self, path: str, attempt: int = 0) -> None:
        self._path = path
        self._attempt = attempt
        self._fd = -1
        self._has_opened = False
        self._lock = threading.RLock()
        self._heads: Dict[str, str] = {}
        self._last: Dict[Key, bytes] = {}
        self._since = 0
        self._lost = 0
        os.register_at_fork(after_in_child=self._forked)

    def scalar(self, name: str, value: float, step: Optional[int] = None) -> None:
        """Append an int or a finite float: the one call that trainings make thousands of times a
        second."""
        head = self._heads.get(name) or self._head(name)
        now = time.time()
        if step is None:
            line = ('%s%r,"time":%.3f}\n' % (head, value, now)).encode()
        else:
            line = ('%s%r,"step":%d,"time":%.3f}\n' % (head, value, step, now)).encode()
        try:
            if os.write(self._fd, line) != len(line):
                self._cut_short()
        except OSError:  # among others since the file is not open yet
            self._write(line)
        self._note(name, line)

    def append(self, record: Dict[str, Any]) -> None:
        """Append any record that JSON can hold."""
        record = {**record, "time": round(time.time(), 3)}
        line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
        self._write(line)
        key = key_of(record)
        if key is not None and len(line) <= _LONGEST_IN_DIGEST:
            self._note(key, line)

    def flush(self) -> None:
        """Put all that was written on the disk, or on the file server."""
        self.close()
        if self._fd < 0:
            return
        try:
            os.fsync(self._fd)
        except OSError as error:
            self._complain(error)

    def close(self) -> None:
        """Leave the file so that its last values are found at its end; more may be appended."""
        if self._fd >= 0 and self._since > 0:
            self._digest()

    def _head(self, name: str) -> str:
        head = self._heads[name] = '{"name":%s,"value":' % json.dumps(name)
        return head

    def _note(self, key: Key, line: bytes) -> None:
        if key.__class__ is tuple and key[0] == PROPERTY:
            self._last.setdefault(key, line)
        else:
            self._last[key] = line
        self._since += len(line)
        if self._since > _DIGEST_EVERY:
            self._digest()

    def _digest(self) -> None:
        """Append the last record of each name; the next one comes the later the longer this is."""
        self._since = -_DIGEST_EVERY
        lines = [line.rstrip(b"\n") for line in list(self._last.values())]
        digest = b'{"digest":[' + b",".join(lines) + b"]}\n"
        self._write(digest)
        self._since = -len(digest)

    def _write(self, line: bytes) -> None:
        """Write a line, opening the file if it is not open."""
        with self._lock:
            try:
                self._write_whole(line)
            except OSError as error:
                self._lost += 1
                self._complain(error)
                self._let_go()
                return
            if self._lost and self._fd >= 0:
                lost, self._lost = self._lost, 0
                self.append({"lost": lost})

    def _write_whole(self, line: bytes) -> None:
        if self._fd < 0:
            line = self._open() + line
        try:
            written = os.write(self._fd, line)
        except OSError as error:
            if error.errno != errno.EBADF:  # as where a script closes all files, to be a daemon
                raise
            self._fd = -1
            line = self._open() + line
            written = os.write(self._fd, line)
        if written != len(line):
            self._cut_short()

    def _cut_short(self) -> None:
        """Count a line of which a full disk took a part; readers pass that over."""
        self._lost += 1
        self._complain(OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        self._let_go()

    def _let_go(self) -> None:
        """Close the file: whoever opens it sees whether its last line is whole."""
        descriptor, self._fd = self._fd, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(descriptor)

    def _complain(self, error: OSError) -> None:
        if self._lost <= 1:
            words = "hpctf: {}.jsonl cannot be written: {}. The training goes on, unrecorded."
            print(words.format(self._path, error.strerror), file=sys.stderr, flush=True)

    def _open(self) -> bytes:
        """Open a file that nobody else writes, and return what stands before the next line."""
        path, descriptor = self._claim()
        beginning = b""
        size = os.fstat(descriptor).st_size
        if size:
            self._last = {**last_lines(path), **self._last}
            if os.pread(descriptor, 1, size - 1) != b"\n":
                beginning = b"\n"
        if not self._has_opened:
            who = {"attempt": self._attempt, "host": os.uname().nodename, "pid": os.getpid()}
            record = {"opened": who, "time": round(time.time(), 3)}
            beginning += json.dumps(record, separators=(",", ":")).encode() + b"\n"
        self._fd = descriptor
        self._has_opened = True
        return beginning

    def _claim(self) -> "tuple[str, int]":
        number = 1
        while True:
            path = self._path + (".jsonl" if number == 1 else ".%d.jsonl" % number)
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
            if _is_ours(descriptor) or number == _MOST_WRITERS:
                return path, descriptor
            os.close(descriptor)
            number += 1

    def _forked(self) -> None:
        """Let a forked process, such as a worker of a data pipeline, write a file of its own."""
        self._lock = threading.RLock()
        self._let_go()
        self._has_opened = False
        self._last = {}


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
