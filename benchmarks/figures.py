"""What a row of the page holds: figures, and the goals that they are held against."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Figure:
    """One thing that was measured, round by round.

    Parameters
    ----------
    case
        What was measured, such as ``"hpctf submit"``.
    values
        One value per round, in `unit`.
    size, size_of
        How large it was and in what, such as 1,000 runs, if cases grow.
    base
        The case that this one is held against.
    reason
        Why there are no values: on the page it stands in their place.
    """

    case: str
    unit: str
    values: tuple[float, ...] = ()
    size: int | None = None
    size_of: str = ""
    base: str = ""
    reason: str = ""

    @property
    def median(self) -> float:
        return statistics.median(self.values)


@dataclass(frozen=True)
class Figures:
    """All figures of a row."""

    rows: tuple[Figure, ...]

    def of(self, case: str, size: int | None = None, unit: str = "") -> Figure | None:
        """Return a case's figure, or None if it has no values: that in `unit`, or its first."""
        for figure in self.rows:
            meant = (figure.case, figure.size) == (case, size) and unit in ("", figure.unit)
            if meant and figure.values:
                return figure
        return None

    def median(self, case: str, size: int | None = None, unit: str = "") -> float | None:
        """Return a case's median, or None if it was not measured."""
        figure = self.of(case, size, unit)
        return figure.median if figure else None

    def ratio(self, case: str, base: str, size: int | None = None) -> float | None:
        """Return how many times a case is its base: the median of the rounds' ratios, where both
        took turns."""
        figure, other = self.of(case, size), self.of(base, size)
        if not figure or not other or not other.median:
            return None
        if len(figure.values) != len(other.values) or not all(other.values):
            return figure.median / other.median
        return statistics.median(
            value / below for value, below in zip(figure.values, other.values, strict=True)
        )


Reading = Callable[[Figures], float | None]


def value(case: str, size: int | None = None, unit: str = "") -> Reading:
    """Return what reads a case's median."""
    return lambda figures: figures.median(case, size, unit)


def ratio(case: str, base: str, size: int | None = None) -> Reading:
    """Return what reads how many times a case is its base."""
    return lambda figures: figures.ratio(case, base, size)


def difference(case: str, base: str, size: int | None = None) -> Reading:
    """Return what reads how much a case is beyond its base."""

    def read(figures: Figures) -> float | None:
        median, below = figures.median(case, size), figures.median(base, size)
        return None if median is None or below is None else median - below

    return read


@dataclass(frozen=True)
class Goal:
    """What a row should reach.

    Parameters
    ----------
    text
        The goal in words, with its bound.
    reading
        What it is held against, of the row's figures.
    most, least
        The bound.
    why
        What the page says where the goal is missed: where the time goes.
    """

    text: str
    reading: Reading
    most: float | None = None
    least: float | None = None
    why: str = ""

    def is_met(self, measured: float) -> bool:
        """Return whether a value keeps to the bound."""
        below = self.most is None or measured <= self.most
        return below and (self.least is None or measured >= self.least)


@dataclass(frozen=True)
class Result:
    """What a row has measured, where and when.

    Parameters
    ----------
    hpctf
        The commit of hpctf's own code (git's tree of hpctf/).
    machine
        What `benchmarks.machine.describe` returns.
    """

    row: str
    date: str
    hpctf: str
    machine: dict[str, str]
    figures: Figures = field(default_factory=lambda: Figures(()))

    def as_json(self) -> dict[str, Any]:
        """Return the content of a result's file; `from_json` reads it."""
        content = asdict(self)
        content["figures"] = [asdict(figure) for figure in self.figures.rows]
        return content


def from_json(content: dict[str, Any]) -> Result:
    """Return the result that a file holds."""
    return Result(**{**content, "figures": figures_of(content["figures"])})


def figures_of(rows: Sequence[dict[str, Any]]) -> Figures:
    """Return figures from their JSON objects."""
    return Figures(tuple(Figure(**{**row, "values": tuple(row["values"])}) for row in rows))
