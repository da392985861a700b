"""What was logged, as curves small enough for a page."""

from __future__ import annotations

import itertools
import math
import operator
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from hpctf.client.hpctf.columns import Numbers

if TYPE_CHECKING:
    from hpctf.client.hpctf.series import Series

MOST_POINTS = 1500
"""Points of the longest line: more than a screen has columns."""

LEAST_POINTS = 60
BUDGET = 150_000
"""Points of all lines of a page together: about 4 MB of text."""

_FARTHEST = 1 << 62
"""Largest step: JSON and browsers know no larger numbers than floats."""

_SIGNIFICANT = 6
"""Digits of the values: a curve shows no more, and text is most of a report's size."""


@dataclass(frozen=True)
class Line:
    """One curve.

    Parameters
    ----------
    label
        Whose it is: a rank or a run.
    x, times, y
        As long as each other: steps, seconds since the beginning, values. A value that is not
        finite is None, and stands in `marks` as ``[place, "nan"]``.
    total
        How many points there were, of which ``x`` has those that are shown.
    first, last, least, most
        Of the finite values, or None.
    shown
        Whether the line is drawn unless somebody asks for it.
    """

    label: str
    x: list[float]
    times: list[float]
    y: list[float | None]
    marks: list[tuple[int, str]]
    total: int
    first: float | None
    last: float | None
    least: float | None
    most: float | None
    shown: bool = True


@dataclass(frozen=True)
class Panel:
    """The lines of one name, over each other."""

    name: str
    lines: list[Line] = field(default_factory=list)
    unit: str = ""


def is_curve(series: Series) -> bool:
    """Whether a series is drawn: several numbers."""
    return (
        series.kind == "value"
        and len(series.values) > 1
        and (
            isinstance(series.values, Numbers)
            or all(isinstance(value, (int, float)) for value in series.values)
        )
    )


def line_of(
    label: str, series: Series, begin: float, most: int = MOST_POINTS, shown: bool = True
) -> Line:
    """Return a series as a line of `most` points at most; `begin` is when its times begin."""
    line = make_line(label, series.axis(), series.times, series.values, most, shown)
    return replace(
        line,
        x=[float(max(-_FARTHEST, min(_FARTHEST, step))) for step in line.x],
        times=[round(at - begin, 3) for at in line.times],
    )


def make_line(
    label: str,
    x: Sequence[float],
    times: Sequence[float],
    values: Sequence[Any],
    most: int = MOST_POINTS,
    shown: bool = True,
) -> Line:
    """Return values as a line in the order of `x`, thinned to `most` points."""
    if any(map(operator.gt, x, itertools.islice(x, 1, None))):
        order = sorted(range(len(values)), key=x.__getitem__)
        x, times, values = ([column[n] for n in order] for column in (x, times, values))
    numbers = values if isinstance(values, Numbers) else list(map(_number, values))
    kept = thinned(numbers, most)
    finite = numbers if _all_finite(numbers) else list(filter(math.isfinite, numbers))
    return Line(
        label=label,
        x=[x[n] for n in kept],
        times=[round(times[n], 3) for n in kept],
        y=[_short(numbers[n]) for n in kept],
        marks=[
            (at, repr(numbers[n])) for at, n in enumerate(kept) if not math.isfinite(numbers[n])
        ],
        total=len(numbers),
        first=float(finite[0]) if finite else None,
        last=float(finite[-1]) if finite else None,
        least=float(min(finite)) if finite else None,
        most=float(max(finite)) if finite else None,
        shown=shown,
    )


def thinned(values: Sequence[float], most: int) -> list[int]:
    """Return which values to keep, in order: `most` at most.

    Of each of as many stretches as there is room for, the lowest and the highest stay, and the
    first that is not finite: peaks and gaps are what people look for.
    """
    if len(values) <= most:
        return list(range(len(values)))
    stretches = max(1, (most - 2) // 3)
    kept = {0, len(values) - 1}
    for n in range(stretches):
        begin, end = (len(values) * k // stretches for k in (n, n + 1))
        stretch = values[begin:end]
        finite = stretch if _all_finite(stretch) else list(filter(math.isfinite, stretch))
        if finite:
            kept.update(begin + stretch.index(edge(finite)) for edge in (min, max))
        if len(finite) < len(stretch):
            kept.add(begin + next(k for k, one in enumerate(stretch) if not math.isfinite(one)))
    return sorted(kept)


def _all_finite(values: Sequence[float]) -> bool:
    """Whether all values are finite, as far as their sum tells: it is quick to have."""
    try:
        return math.isfinite(sum(values))
    except OverflowError:
        return False


def points_each(lines: int) -> int:
    """Return how many points each of a page's lines may have."""
    return max(LEAST_POINTS, min(MOST_POINTS, BUDGET // max(1, lines)))


def panels_of(named: Iterable[tuple[str, Line]]) -> list[Panel]:
    """Return the lines by name, in the order in which names first come."""
    found: dict[str, Panel] = {}
    for name, line in named:
        found.setdefault(name, Panel(name)).lines.append(line)
    return list(found.values())


def _number(value: Any) -> float:
    """Return a value as a float; what is too large for one is infinite."""
    try:
        return float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf


def _short(value: float) -> float | None:
    return float(f"{value:.{_SIGNIFICANT}g}") if math.isfinite(value) else None
