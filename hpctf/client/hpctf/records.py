"""Reading journals: whole, or the last value of each name from the end of the file.

The format is in docs/tracking.md. A line that a crash cut short, or that is no record, is passed
over. What a rank logged again after a restart takes the place of what it had logged for the same
steps before.
"""

import json
import os
from typing import IO, Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple, Union

from .columns import Column, Numbers, appended, picked
from .values import restored
from .within import is_readable_within, open_file

try:
    import orjson as _json  # several times faster: the login side has it
except ImportError:
    _json = json  # type: ignore[misc,assignment,unused-ignore]

_loads: Callable[[bytes], Any] = _json.loads

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
_AT_ONCE = 1 << 18
"""Bytes that are read at once where a file is read whole."""
_EXACT = float(1 << 63)
"""Below it numbers are what every reader of JSON says; orjson's larger ones are floats."""

Puts = Tuple[Any, Any, Callable[[Any], None], Callable[[Any], None], Callable[[Any], None]]


class Series:
    """All that was logged under one name, in order.

    Attributes
    ----------
    name, kind
        One of `KINDS`.
    values, steps, times
        As long as each other, each a list or, of numbers, an array; a step is None where none was
        given, times are seconds since the epoch.
    """

    __slots__ = ("_start", "kind", "name", "steps", "times", "values")

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.values: Column = Numbers("d")
        self.steps: Column = Numbers("q")
        self.times: Column = Numbers("d")
        self._start = 0

    def __repr__(self) -> str:
        return "Series({!r}, {!r}, {} values)".format(self.name, self.kind, len(self.values))

    def add(self, value: Any, step: Optional[int], at: float, start: int) -> None:
        """Append a value that the rank's `start`-th process logged."""
        if start != self._start:
            if self.values:
                self._forget_from(step)
            self._start = start
        self.values = appended(self.values, value)
        self.steps = appended(self.steps, step)
        self.times = appended(self.times, float(at))

    def puts(self) -> "Optional[Puts]":
        """Return the classes of values and steps, and what appends each part of one more value of
        these, as long as values are numbers of one kind; else None."""
        values, steps, times = self.values, self.steps, self.times
        if not isinstance(values, Numbers):
            return None
        step = int if isinstance(steps, Numbers) else type(steps[-1])
        return values.kind, step, values.append, steps.append, times.append

    def _forget_from(self, step: Optional[int]) -> None:
        """Drop what earlier processes logged for `step` and later ones: it was trained again."""
        if step is None:
            return
        kept = [n for n, old in enumerate(self.steps) if old is None or old < step]
        if len(kept) < len(self.steps):
            self.values = picked(self.values, kept)
            self.steps = picked(self.steps, kept)
            self.times = picked(self.times, kept)

    def axis(self) -> Column:
        """Return the steps, or where there are none the position of each value."""
        if isinstance(self.steps, Numbers):
            return self.steps
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
            return _columns(list(self.values))
        if self.kind == "table":
            return _joined(list(self.values))
        return self.values[-1] if len(self.values) == 1 else list(self.values)


class Journal:
    """What one file holds.

    Parameters
    ----------
    heard
        Called with each record of progress.

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

    def __init__(self, heard: Optional[Callable[[Dict[str, Any]], None]] = None) -> None:
        self._heard = heard
        self.series: Dict[str, Series] = {}
        self.tags: Dict[str, Tuple[Any, float]] = {}
        self.properties: Dict[str, Tuple[Any, float]] = {}
        self.progress: Optional[Dict[str, Any]] = None
        self.ended: Optional[Dict[str, Any]] = None
        self.lost = 0
        self._start = 0
        self._puts: Dict[str, Puts] = {}

    def take_lines(self, text: bytes) -> None:
        """Add the records of lines.

        They are read as one document. What is not a number of the same kind as the one before, of
        the same name and the same process, is read once more, on its own, and taken by `take`.
        """
        records = at_once(text)
        if records is None:
            for record in records_of(text.split(b"\n")):
                self.take(record)
            return
        puts, lines = self._puts, None
        for n, record in enumerate(records):
            try:
                kind, step_kind, put_value, put_step, put_time = puts[record["name"]]
                value, step, at = record["value"], record.get("step"), record["time"]
                if (
                    value.__class__ is kind
                    and step.__class__ is step_kind
                    and at.__class__ is float
                    and -_EXACT < value < _EXACT
                ):
                    put_step(step)
                    put_value(value)
                    put_time(at)
                    continue
            except (KeyError, TypeError, OverflowError):
                pass
            lines = lines or text.split(b"\n")
            for exact in records_of([lines[n]]):
                self.take(exact)

    def take(self, record: Dict[str, Any]) -> None:
        """Add a record."""
        at = record.get("time")
        if not isinstance(at, (int, float)):
            return
        if "name" in record:
            self._take_value(record, at)
        elif "opened" in record:
            self._start += 1
            self._puts.clear()
        elif "tag" in record:
            self.tags[str(record["tag"])] = (record.get("value"), at)
        elif "property" in record:
            self.properties.setdefault(str(record["property"]), (record.get("value"), at))
        elif "progress" in record:
            self.progress = {**record["progress"], "time": at}
            if self._heard is not None:
                self._heard(record)
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
        if kind == "value":
            self._puts.pop(name, None)
            puts = series.puts()
            if puts is not None and series.name == name:
                self._puts[name] = puts


def read_file(path: str) -> Journal:
    """Return all that a file holds; one that is not there holds nothing."""
    journal = Journal()
    try:
        with open_file(path) as stream:
            for text in whole_lines(stream):
                journal.take_lines(text)
    except FileNotFoundError:
        pass
    return journal


def whole_lines(stream: "IO[bytes]") -> Iterator[bytes]:
    """Yield the rest of a file, many whole lines at a time, and then what is no whole line yet."""
    rest: List[bytes] = []
    while True:
        part = stream.read(_AT_ONCE)
        end = part.rfind(b"\n") + 1
        if end:
            yield b"".join([*rest, part[:end]])
            rest = []
        rest.append(part[end:])
        if not part:
            break
    last = b"".join(rest)
    if last:
        yield last


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


def at_once(text: bytes) -> Optional[List[Any]]:
    """Return what lines hold, read as one document; None if one of them is no JSON.

    Whole numbers of more than 64 bits may be floats.
    """
    text = text if text.endswith(b"\n") else text + b"\n"
    try:
        found: List[Any] = _loads(b"[" + text.replace(b"\n", b",")[:-1] + b"]")
    except (ValueError, RecursionError):
        return None
    return found if len(found) == text.count(b"\n") else None


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
    if not is_readable_within(path):
        return
    with open_file(path) as stream:
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
