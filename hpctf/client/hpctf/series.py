"""All that was logged under one name."""

from typing import Any, Callable, Dict, List, Optional, Tuple

from .columns import Column, Numbers, appended, picked

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

    def drop_rest(self) -> None:
        """Drop what was put of one more value, whose time was not put."""
        del self.values[len(self.times) :]
        del self.steps[len(self.times) :]

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
