"""Reading journals: whole, or the last value of each name from the end of the file.

The format is in docs/tracking.md. A line that a crash cut short, or that is no record, is passed
over. What a rank logged again after a restart takes the place of what it had logged for the same
steps before.
"""

import contextlib
import json
import os
from typing import IO, Any, Callable, Dict, Iterable, Iterator, List, Optional, Tuple, Union

from .series import Series
from .values import restored
from .within import is_readable_within, open_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .points import Point

_CHARTS = ("confusion_matrix", "accuracy_table", "predictions", "residuals")
KINDS = ("value", "list", "row", "table", "image", *_CHARTS)
"""What a record can hold under a name."""

PROPERTY = "property"
Key = Union[None, str, Tuple[str, str]]

_CHUNK = 65536
_AT_ONCE = 1 << 18
"""Bytes that are read at once where a file is read whole."""


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
        self._plain: Dict[str, Series] = {}

    def take_lines(self, text: bytes) -> None:
        """Add the records of lines.

        Numbers are added many at a time where a name's next ones are of the kind that its last ones
        were. Where that does not hold, or a new process begins, each record is taken by `take`.
        """
        points = points_of(text)
        if points is None or not self._take_points(points, text):
            for record in records_of(text.split(b"\n")):
                self.take(record)

    def _take_points(self, points: "List[Point]", text: bytes) -> bool:
        """Add the records of the lines of `text`, `points`, a name at a time, and return True; do
        nothing if a new process begins among them, or a series has other values than before."""
        points_of_series: Dict[str, List[Point]] = {name: [] for name in self._plain}
        put = {name: mine.append for name, mine in points_of_series.items()}
        others = []
        for n, point in enumerate(points):
            try:
                put[point.name](point)
            except KeyError:
                if point.time is not None:
                    others.append(n)

        # What is no number, or is the first of its name: seldom many
        records: List[Dict[str, Any]] = []
        if others:
            lines = text.split(b"\n")
            if len(lines) - (not lines[-1]) != len(points):
                return False  # empty lines: which line a point is of is not known
            records = list(records_of(lines[n] for n in others))
            if any("opened" in record for record in records):
                return False

        more = {}
        for name, mine in points_of_series.items():
            columns = self._plain[name].columns_of(mine)
            if columns is None:
                return False
            more[name] = columns
        for name, columns in more.items():
            self._plain[name].extend(*columns)
        for record in records:
            self.take(record)
        return True

    def take(self, record: Dict[str, Any]) -> None:
        """Add a record."""
        at = record.get("time")
        if not isinstance(at, (int, float)):
            return
        if "name" in record:
            self._take_value(record, at)
        elif "opened" in record:
            self._start += 1
            self._plain.clear()
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
            label = name if series is None else f"{name} ({kind})"
            series = self.series.setdefault(label, Series(label, kind))
        step = record.get("step")
        series.add(value, step if isinstance(step, int) else None, at, self._start)
        if kind == "value":
            self._plain.pop(name, None)
            if series.name == name and series.is_plain:
                self._plain[name] = series


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


def points_of(text: bytes) -> "Optional[List[Point]]":
    """Return what lines say of numbers, but for empty ones; None if one of them is not such a
    record."""
    try:
        from .points import read_points
    except ImportError:
        return None  # without msgspec, as in training environments
    try:
        return read_points(text)
    except ValueError:
        return None


def at_once(text: bytes) -> Optional[List[Any]]:
    """Return what lines hold, read as one document; None if one of them is no JSON."""
    loads: Callable[[bytes], Any] = json.loads
    with contextlib.suppress(ImportError):  # as above
        from .points import loads
    text = text if text.endswith(b"\n") else text + b"\n"
    try:
        found: List[Any] = loads(b"[" + text.replace(b"\n", b",")[:-1] + b"]")
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
        # Of a metric's lines only the last counts. They begin alike, and a quote within a name has
        # a backslash before it: all others need not be read as JSON.
        head = line[: line.find(b'","', 9)] if line.startswith(b'{"name":"') else b""
        if head and head in heads:
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):
            continue
        if not isinstance(record, dict):
            continue
        heads.add(head)
        digest = record.get("digest")
        for last in [record] if digest is None else reversed(digest):
            key = key_of(last)
            if key is not None and (key not in found or key[0] == PROPERTY):
                found[key] = json.dumps(last, separators=(",", ":")).encode() + b"\n"
        if digest is not None:
            break
    return dict(reversed(list(found.items())))


def key_of(record: Dict[str, Any]) -> Key:
    """Return under what a record is the latest: its name, or what else it is; None for others."""
    if "name" in record:
        return str(record["name"])
    for kind in ("tag", PROPERTY):
        if kind in record:
            return kind, str(record[kind])
    return next(((kind, "") for kind in ("progress", "ended") if kind in record), None)


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
