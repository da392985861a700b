"""All that was logged under one name."""

from typing import Any, Dict, List, Optional, Tuple

from .columns import Column, Numbers, appended, fit, picked

TYPE_CHECKING = False
if TYPE_CHECKING:
    from .points import Point

Columns = Tuple[List[Any], List[Any], List[Any]]


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
        return f"Series({self.name!r}, {self.kind!r}, {len(self.values)} values)"

    def add(self, value: Any, step: Optional[int], at: float, start: int) -> None:
        """Append a value that the rank's `start`-th process logged."""
        if start != self._start:
            if self.values:
                self._forget_from(step)
            self._start = start
        self.values = appended(self.values, value)
        self.steps = appended(self.steps, step)
        self.times = appended(self.times, float(at))

    @property
    def is_plain(self) -> bool:
        """Whether all values are numbers of one kind."""
        return isinstance(self.values, Numbers)

    def columns_of(self, points: "List[Point]") -> "Optional[Columns]":
        """Return values, steps and times that follow on those of a plain series; None if they are
        not of the same kinds, or do not fit."""
        value = self.values.kind if isinstance(self.values, Numbers) else None
        step = int if isinstance(self.steps, Numbers) else type(self.steps[-1])
        values = [point.value for point in points]
        steps = [point.step for point in points]
        times = [point.time for point in points]
        for column, kind in ((values, value), (steps, step), (times, float)):
            if not {kind}.issuperset(map(type, column)) or (kind is int and not fit(column)):
                return None
        return values, steps, times

    def extend(self, values: List[Any], steps: List[Any], times: List[Any]) -> None:
        """Append what `columns_of` has returned."""
        for column, more in ((self.values, values), (self.steps, steps), (self.times, times)):
            extend = column.fromlist if isinstance(column, Numbers) else column.extend
            extend(more)

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
        if self.kind == "list":
            return [value for values in self.values for value in values]
        if self.kind == "row" and len(self.values) > 1:
            names = dict.fromkeys(name for row in self.values for name in row)
            return {name: [row.get(name) for row in self.values] for name in names}
        if self.kind == "table":
            joined: Dict[str, List[Any]] = {}
            for name, column in ((n, c) for table in self.values for n, c in table.items()):
                joined.setdefault(name, []).extend(column if isinstance(column, list) else [column])
            return joined
        return self.values[0] if len(self.values) == 1 else list(self.values)
