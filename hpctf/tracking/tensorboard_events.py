"""Scalars of TensorBoard's event files, read without TensorFlow, TensorBoard or protobuf.

Only what a scalar needs is read: the framing of records (tensorflow/core/lib/io/record_writer.h),
and the fields of Event, Summary and TensorProto that hold one (tensorflow/core/util/event.proto,
tensorflow/core/framework/summary.proto, tensor.proto). TensorBoard itself would bring fifty
megabytes to the login node, and imports TensorFlow where it can.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from hpctf.client.hpctf.series import Series
from hpctf.run_folder.ownership import open_of_run

_FILE = re.compile(r"\.out\.tfevents\.(?P<time>\d+)")
_ROOMS = ("snapshot/logs", "outputs")
"""Where runs write event files: their ``./logs`` and ``./outputs``."""
_ENDS = ("train", "validation", "test", "eval")
"""Folders that a writer's name ends in: part of a metric's name, even if there is but one."""

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FLOAT, _DOUBLE = 1, 2
_INTEGERS = (3, 9)
"""TensorFlow's types DT_INT32 and DT_INT64 (types.proto)."""

_SIGN, _ALL_BITS = 1 << 63, (1 << 64) - 1

Field = tuple[int, int, "int | bytes"]


class Point(NamedTuple):
    """A scalar: seconds since the epoch, step, tag and value."""

    time: float
    step: int
    tag: str
    value: float


def event_series(place: Path) -> dict[str, Series]:
    """Return the scalars of all event files of a run, or a child run, by ``<folder>/<tag>``.

    What the folders of ``./logs``, and those of ``./outputs``, have in common is left out:
    ``train/epoch_loss`` and ``validation/epoch_loss`` as Keras' TensorBoard callback writes them.
    Of files in one folder the later one takes the place of the steps that it has, too: after a
    restart.
    """
    found: dict[str, Series] = {}
    for room in _ROOMS:
        for name, series in _of_room(place / room).items():
            other = f"{os.path.basename(room)}/{name}" if name in found else name
            found[other] = series
    return found


def size_of_events(place: Path) -> int:
    """Return how many bytes a run's event files have."""
    rooms = (_event_files(place / room) for room in _ROOMS)
    paths = [path for room in rooms for files in room.values() for _, path in files]
    return sum(os.stat(path).st_size for path in paths)


def _of_room(room: Path) -> dict[str, Series]:
    folders = _event_files(room)
    if not folders:
        return {}
    common = os.path.commonpath(folders)
    if os.path.basename(common) in _ENDS:
        common = os.path.dirname(common)
    found: dict[str, Series] = {}
    for folder in sorted(folders):
        prefix = os.path.relpath(folder, common)
        for number, (_, path) in enumerate(sorted(folders[folder]), 1):
            for point in points_of(path):
                name = point.tag if prefix == "." else f"{prefix}/{point.tag}"
                series = found.setdefault(name, Series(name, "value"))
                series.add(point.value, point.step, point.time, number)
    return found


def _event_files(room: Path) -> dict[str, list[tuple[int, str]]]:
    """Return (when it was begun, path) of each event file, by folder."""
    found: dict[str, list[tuple[int, str]]] = {}
    for folder, _, names in os.walk(room):
        for name in names:
            match = _FILE.search(name)
            if match:
                path = os.path.join(folder, name)
                found.setdefault(folder, []).append((int(match["time"]), path))
    return found


def points_of(path: str) -> tuple[Point, ...]:
    """Return the scalars of one event file, in order.

    A record that is not whole yet ends the file. Checksums are not looked at: without a library it
    would take as long again, and disks have their own. A file that is read again and has not
    changed is not read twice; one that is gone, or that may not be read, has none.
    """
    try:
        found = os.stat(path)
        return _points_of(path, found.st_size, found.st_mtime_ns)
    except OSError:
        return ()


@lru_cache(maxsize=256)
def _points_of(path: str, size: int, changed: int) -> tuple[Point, ...]:
    with open_of_run(path) as stream:
        data = stream.read(size)
    return tuple(point for event in _records(data) for point in _points(event))


def _records(data: bytes) -> Iterator[bytes]:
    """Yield records: length (8 bytes), its checksum (4), data, the data's checksum (4)."""
    at = 0
    while at + 16 <= len(data):
        (length,) = struct.unpack_from("<Q", data, at)
        end = at + 12 + length
        if end + 4 > len(data):
            return
        yield data[at + 12 : end]
        at = end + 4


def _points(event: bytes) -> Iterator[Point]:
    when, step, summary = 0.0, 0, b""
    try:
        for number, _, content in _fields(event):
            if number == 1 and isinstance(content, bytes):
                (when,) = struct.unpack("<d", content)
            elif number == 2 and isinstance(content, int):
                step = (content & _ALL_BITS) - ((content & _SIGN) << 1)  # two's complement
            elif number == 5 and isinstance(content, bytes):
                summary = content
        for number, _, content in _fields(summary):
            if number == 1 and isinstance(content, bytes):
                tag, value = _value(content)
                if value is not None:
                    yield Point(when, step, tag, value)
    except (IndexError, struct.error, UnicodeDecodeError):
        return  # damaged


def _value(summary: bytes) -> tuple[str, float | None]:
    """Return a Summary.Value's tag and scalar; None if it is an image, a histogram or the like."""
    tag, value = "", None
    for number, kind, content in _fields(summary):
        if number == 1 and isinstance(content, bytes):
            tag = content.decode("utf-8", "backslashreplace")
        elif number == 2 and kind == _FIXED32 and isinstance(content, bytes):
            (value,) = struct.unpack("<f", content)
        elif number == 8 and isinstance(content, bytes):
            value = _scalar(content)
    return tag, value


def _scalar(tensor: bytes) -> float | None:
    """Return the one number of a TensorProto, or None if it is no such."""
    kind, numbers = 0, b""
    for number, _, content in _fields(tensor):
        if number == 1 and isinstance(content, int):
            kind = content
        elif number == 2 and content:
            return None  # it has dimensions
        elif number in (4, 5, 6) and isinstance(content, bytes):
            numbers = content  # tensor_content, float_val, double_val: packed
        elif number in (7, 10):  # int_val and int64_val: packed or not
            one = _varint(content, 0)[0] if isinstance(content, bytes) else content
            numbers = struct.pack("<Q", one & _ALL_BITS)
    form = {_FLOAT: "<f", _DOUBLE: "<d", _INTEGERS[0]: "<i", _INTEGERS[1]: "<q"}.get(kind)
    if form is None:
        return None
    if kind in _INTEGERS and len(numbers) > struct.calcsize(form):
        numbers = numbers[: struct.calcsize(form)]
    return float(struct.unpack(form, numbers)[0]) if numbers else 0.0


def _fields(message: bytes) -> Iterator[Field]:
    """Yield (number, wire type, content) of a message (protobuf.dev, "Encoding")."""
    at = 0
    while at < len(message):
        key, at = _varint(message, at)
        kind = key & 7
        content: int | bytes
        if kind == _VARINT:
            content, at = _varint(message, at)
        else:
            size = {_FIXED64: 8, _FIXED32: 4}.get(kind, len(message))
            if kind == _BYTES:
                size, at = _varint(message, at)
            if at + size > len(message):  # also of a type that nobody knows
                raise IndexError(at)
            content, at = message[at : at + size], at + size
        yield key >> 3, kind, content


def _varint(message: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = message[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
        shift += 7
