"""Reading journals: whole, or the last value of each name from the end of the file.

The format is in docs/tracking.md. A line that a crash cut short, or that is no record, is passed
over. What a rank logged again after a restart takes the place of what it had logged for the same
steps before.
"""

import json
import os
from typing import Any, Dict, Iterable, Iterator, List, Optional, Tuple, Union

from .values import restored

KINDS = (
    "value",
    "list",
    "row",
    "table",
    "image",
    "confusion_matrix",
    "accuracy_table",
    "predictions",
    "residuals",
)
"""What a record can hold under a name."""

PROPERTY = "property"
Key = Union[None, str, Tuple[str, str]]

_CHUNK = 65536


class Series:
    """All that was logged under one name, in order.

    Attributes
    ----------
    name, kind
        One of `KINDS`.
    values, steps, times
        As long as each other; a step is None where none was given, times are seconds since the
        epoch.
    """

    __slots__ = ("_start", "kind", "name", "steps", "times", "values")

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.values: List[Any] = []
        self.steps: List[Optional[int]] = []
        self.times: List[float] = []
        self._start = 0

    def __repr__(self) -> str:
        return "Series({!r}, {!r}, {} values)".format(self.name, self.kind, len(self.values))

    def add(self, value: Any, step: Optional[int], at: float, start: int) -> None:
        """Append a value that the rank's `start`-th process logged."""
        if start != self._start:
            if self.values:
                self._forget_from(step)
            self._start = start
        self.values.append(value)
        self.steps.append(step)
        self.times.append(at)

    def _forget_from(self, step: Optional[int]) -> None:
        """Drop what earlier processes logged for `step` and later ones: it was trained again."""
        if step is None:
            return
        kept = [n for n, old in enumerate(self.steps) if old is None or old < step]
        self.values = [self.values[n] for n in kept]
        self.steps = [self.steps[n] for n in kept]
        self.times = [self.times[n] for n in kept]

    def axis(self) -> List[int]:
        """Return the steps, or where there are none the position of each value."""
        return [n if step is None else step for n, step in enumerate(self.steps)]

    def metric(self) -> Any:
        """Return what Azure ML's ``get_metrics`` has for the name.

        One value, or a list of all; of lists one joined list; of rows and tables a mapping from
        column to value or list; of all else the last.
        """
        if self.kind == "value":
            return self.values[0] if len(self.values) == 1 else list(self.values)
        if self.kind == "list":
            return [value for values in self.values for value in values]
        if self.kind == "row":
            return _columns(self.values)
        if self.kind == "table":
            return _joined(self.values)
        return self.values[-1] if len(self.values) == 1 else list(self.values)


class Journal:
    """What one file holds.

    Attributes
    ----------
    series
        By name; a name under which a second kind was logged has that kind behind it.
    tags, properties
        The latest of each: (value, time).
    progress
        The latest ``progress`` record, such as ``{"epoch": 3, "epochs": 12}``, or None.
    ended
        How a child run said that it ended, or None.
    lost
        How many records could not be written.
    """

    def __init__(self) -> None:
        self.series: Dict[str, Series] = {}
        self.tags: Dict[str, Tuple[Any, float]] = {}
        self.properties: Dict[str, Tuple[Any, float]] = {}
        self.progress: Optional[Dict[str, Any]] = None
        self.ended: Optional[Dict[str, Any]] = None
        self.lost = 0
        self._start = 0

    def take(self, record: Dict[str, Any]) -> None:
        """Add a record."""
        at = record.get("time")
        if not isinstance(at, (int, float)):
            return
        if "name" in record:
            self._take_value(record, at)
        elif "opened" in record:
            self._start += 1
        elif "tag" in record:
            self.tags[str(record["tag"])] = (record.get("value"), at)
        elif "property" in record:
            self.properties.setdefault(str(record["property"]), (record.get("value"), at))
        elif "progress" in record:
            self.progress = {**record["progress"], "time": at}
        elif "ended" in record:
            self.ended = {**record["ended"], "time": at}
        elif "lost" in record:
            self.lost += record["lost"]

    def _take_value(self, record: Dict[str, Any], at: float) -> None:
        name = str(record["name"])
        kind = next((kind for kind in KINDS if kind in record), None)
        if kind is None:
            return
        value = record[kind]
        if not isinstance(value, (float, str, bool)):
            value = restored(value)
        series = self.series.get(name)
        if series is None or series.kind != kind:
            known = series is not None
            label = "{} ({})".format(name, kind) if known else name
            series = self.series.setdefault(label, Series(label, kind))
        step = record.get("step")
        series.add(value, step if isinstance(step, int) else None, at, self._start)


def read_file(path: str) -> Journal:
    """Return all that a file holds; one that is not there holds nothing."""
    journal = Journal()
    try:
        with open(path, "rb") as stream:
            for record in records_of(stream):
                journal.take(record)
    except FileNotFoundError:
        pass
    return journal


def records_of(lines: Iterable[bytes]) -> Iterator[Dict[str, Any]]:
    """Yield the records of lines, but for digests and what is no record."""
    for line in lines:
        if line.startswith(b'{"digest"'):
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if isinstance(record, dict):
            yield record


def last_of(path: str) -> Journal:
    """Return a journal with the last record of each name alone, read from the end of a file."""
    journal = Journal()
    for record in records_of(last_lines(path).values()):
        journal.take(record)
    return journal


def last_lines(path: str) -> Dict[Key, bytes]:
    """Return the last line of each name, tag and the like; of a property the first. Those that were
    written last come last.

    No more is read than what was written since the last digest.
    """
    found: Dict[Key, bytes] = {}
    heads = set()
    for line in _from_the_end(path):
        head = _head_of(line)
        if head and head in heads:
            continue  # without reading it as JSON: only the last one counts
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(record, dict):
            continue
        heads.add(head)
        digest = record.get("digest")
        for last in [record] if digest is None else reversed(digest):
            _keep(found, last)
        if digest is not None:
            break
    return dict(reversed(list(found.items())))


def _keep(found: Dict[Key, bytes], record: Dict[str, Any]) -> None:
    """Keep a record's line, unless a later one of its key is there; the first property stays."""
    key = key_of(record)
    if key is not None and (key not in found or key[0] == PROPERTY):
        found[key] = json.dumps(record, separators=(",", ":")).encode() + b"\n"


def key_of(record: Dict[str, Any]) -> Key:
    """Return under what a record is the latest: its name, or what else it is; None for others."""
    if "name" in record:
        return str(record["name"])
    for kind in ("tag", PROPERTY):
        if kind in record:
            return kind, str(record[kind])
    return next(((kind, "") for kind in ("progress", "ended") if kind in record), None)


def _head_of(line: bytes) -> bytes:
    """Return the beginning of a line that names a metric: the same for each of its records."""
    if not line.startswith(b'{"name":"'):
        return b""
    return line[: line.find(b'","', 9)]  # a quote within a name has a backslash before it


def _from_the_end(path: str) -> Iterator[bytes]:
    """Yield the lines of a file from the last to the first."""
    if not os.path.exists(path):
        return
    with open(path, "rb") as stream:
        position = stream.seek(0, os.SEEK_END)
        rest: List[bytes] = []  # the parts of a line that is longer than what is read at once
        while position:
            size = min(_CHUNK, position)
            position -= size
            stream.seek(position)
            first, *lines = stream.read(size).split(b"\n")
            if lines:
                yield b"".join([lines.pop(), *reversed(rest)])
                yield from reversed(lines)
                rest = []
            rest.append(first)
        yield b"".join(reversed(rest))


def _columns(rows: List[Dict[str, Any]]) -> Dict[str, Any]:
    """Return rows as columns, as long as each other; a row that lacks one has None there."""
    names = list(dict.fromkeys(name for row in rows for name in row))
    if len(rows) == 1:
        return dict(rows[0])
    return {name: [row.get(name) for row in rows] for name in names}


def _joined(tables: List[Dict[str, Any]]) -> Dict[str, List[Any]]:
    joined: Dict[str, List[Any]] = {}
    for table in tables:
        for name, column in table.items():
            joined.setdefault(name, []).extend(column if isinstance(column, list) else [column])
    return joined
