"""Writing files that are whole or absent, and one-line appends: the run folder's two ways.

Standard library only, and little of it: every rank of every job imports this module before its
training starts.
"""

from __future__ import annotations

import json
import os

TYPE_CHECKING = False  # not typing's: importing it costs each rank 8 ms
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

PRIVATE_FILE = 0o600
PRIVATE_FOLDER = 0o700


def write_atomic(path: str | os.PathLike[str], data: bytes | str, mode: int = PRIVATE_FILE) -> None:
    """Write `data` so that a reader sees the old file or the whole new one, never a part.

    The temporary file lies beside `path` (rename is atomic within one file system only) and is
    flushed to disk before the rename.
    """
    target = os.fspath(path)
    temporary = f"{target}.{os.urandom(6).hex()}.tmp"
    payload = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(payload)
            stream.flush()
            os.fsync(stream.fileno())
        os.rename(temporary, target)
    except BaseException:
        os.unlink(temporary)
        raise


def write_json(path: str | os.PathLike[str], value: Any, mode: int = PRIVATE_FILE) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=True) + "\n", mode)


def read_json(path: str | os.PathLike[str]) -> Any:
    """Read one JSON document."""
    with open(path, encoding="utf-8") as stream:
        return json.load(stream)


def append_record(path: str | os.PathLike[str], record: dict[str, Any]) -> None:
    """Append `record` as one line of JSON.

    A single `write` on a descriptor opened with O_APPEND: lines of different processes on one
    file system never mix (POSIX write(2)); every rank writes a file of its own all the same,
    since NFS does not keep that promise between hosts.
    """
    line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, PRIVATE_FILE)
    try:
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line  # somebody was cut short in the middle of a line
        os.write(descriptor, line)
    finally:
        os.close(descriptor)


def read_records(path: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    """Yield the records of a JSON-lines file; a line cut short by a crash is passed over.

    A file that is not there has no records.
    """
    try:
        with open(path, "rb") as stream:
            lines = stream.read().split(b"\n")
    except FileNotFoundError:
        return
    for line in lines:
        try:
            record = json.loads(line)
        except ValueError:
            continue
        if isinstance(record, dict):
            yield record


def tail(path: str | os.PathLike[str], lines: int = 20, limit: int = 65536) -> list[str]:
    """Return the last `lines` lines of a log, looking at no more than its last `limit` bytes."""
    try:
        with open(path, "rb") as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - limit))
            text = stream.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines:]
