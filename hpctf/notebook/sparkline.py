"""One or several series as a small chart within the text, in SVG.

It is a picture without a script, unlike the report's charts: a card also shows its curves in a
notebook that nobody has trusted yet, on GitHub, and in a notebook exported as a page, where scripts
do not run.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from markupsafe import Markup

from hpctf.common.units import in_short
from hpctf.tracking.curves import Line, line_of

if TYPE_CHECKING:
    from hpctf.client.hpctf.series import Series

WIDTH, HEIGHT = 160, 36
_EDGE = 3
"""Pixels that a stroke may need beside its points."""
COLORS = 4
"""Lines of one chart that look different (card.css); further ones begin again."""


def sparkline(series: Sequence[Series]) -> Markup:
    """Return series as one SVG image over their steps; a value that is not finite is a gap."""
    lines = [line_of(one.name, one, one.times[0], most=WIDTH) for one in series]
    axes = _Axes(lines)
    drawn = [
        _path(points, number % COLORS)
        for number, line in enumerate(lines)
        for points in axes.stretches(line)
    ]
    name = "{}: " if len(lines) > 1 else ""
    titles = [
        f"{name.format(line.label)}from {_told(line.first)} to {_told(line.last)}, "
        f"{line.total} values"
        for line in lines
    ]
    return Markup(
        '<svg class="hpctf-curve" role="img" width="{w}" height="{h}" viewBox="0 0 {w} {h}">'
        "<title>{title}</title>{drawn}</svg>"
    ).format(w=WIDTH, h=HEIGHT, title="; ".join(titles), drawn=Markup("").join(drawn))


class _Axes:
    """The steps and values that all lines of a chart share."""

    def __init__(self, lines: Sequence[Line]) -> None:
        self._steps = _range(step for line in lines for step in line.x)
        self._values = _range(value for line in lines for value in (line.least, line.most))

    def stretches(self, line: Line) -> list[list[tuple[float, float]]]:
        """Return a line's points in pixels, parted where a value is not finite."""
        found: list[list[tuple[float, float]]] = [[]]
        for x, y in zip(line.x, line.y, strict=True):
            if y is None:
                found.append([])
                continue
            across = _EDGE + (WIDTH - 2 * _EDGE) * _share(x, *self._steps)
            up = _EDGE + (HEIGHT - 2 * _EDGE) * _share(y, *self._values)
            found[-1].append((across, HEIGHT - up))
        return [points for points in found if points]


def _range(values: Iterable[float | None]) -> tuple[float, float]:
    known = [value for value in values if value is not None]
    return (min(known), max(known)) if known else (0.0, 0.0)


def _path(points: list[tuple[float, float]], color: int) -> Markup:
    if len(points) == 1:
        (x, y) = points[0]
        circle = '<circle class="hpctf-line-{}" cx="{:.1f}" cy="{:.1f}" r="1.5"/>'
        return Markup(circle).format(color, x, y)
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Markup('<polyline class="hpctf-line-{}" points="{}"/>').format(color, text)


def _share(value: float, low: float, high: float) -> float:
    """Return where a value lies between two others, from 0 to 1, also where floats end."""
    span = high / 2 - low / 2
    share = (value / 2 - low / 2) / span if span else 0.5
    return min(1.0, max(0.0, share)) if math.isfinite(share) else 0.5


def _told(value: float | None) -> str:
    return "no number" if value is None else in_short(value)
