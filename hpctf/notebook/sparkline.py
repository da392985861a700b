"""A series as a small curve within the text, in SVG."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from markupsafe import Markup

from hpctf.common.units import in_short
from hpctf.tracking.curves import Line, line_of

if TYPE_CHECKING:
    from hpctf.client.hpctf.series import Series

WIDTH, HEIGHT = 160, 36
_EDGE = 3
"""Pixels that a stroke may need beside its points."""


def sparkline(series: Series) -> Markup:
    """Return a series as an SVG image over its steps; a value that is not finite is a gap."""
    line = line_of("", series, series.times[0], most=WIDTH)
    drawn = [_path(points) for points in _stretches(line)]
    title = f"from {_told(line.first)} to {_told(line.last)}, {line.total} values"
    return Markup(
        '<svg class="hpctf-curve" role="img" width="{w}" height="{h}" viewBox="0 0 {w} {h}">'
        "<title>{title}</title>{drawn}</svg>"
    ).format(w=WIDTH, h=HEIGHT, title=title, drawn=Markup("").join(drawn))


def _stretches(line: Line) -> list[list[tuple[float, float]]]:
    """Return the points in pixels, parted where a value is not finite."""
    if line.least is None or line.most is None:
        return []
    low, high = line.x[0], line.x[-1]
    found: list[list[tuple[float, float]]] = [[]]
    for x, y in zip(line.x, line.y, strict=True):
        if y is None:
            found.append([])
            continue
        across = _EDGE + (WIDTH - 2 * _EDGE) * _share(x, low, high)
        up = _EDGE + (HEIGHT - 2 * _EDGE) * _share(y, line.least, line.most)
        found[-1].append((across, HEIGHT - up))
    return [points for points in found if points]


def _path(points: list[tuple[float, float]]) -> Markup:
    if len(points) == 1:
        (x, y) = points[0]
        return Markup('<circle cx="{:.1f}" cy="{:.1f}" r="1.5"/>').format(x, y)
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Markup('<polyline points="{}"/>').format(text)


def _share(value: float, low: float, high: float) -> float:
    """Return where a value lies between two others, from 0 to 1, also where floats end."""
    span = high / 2 - low / 2
    share = (value / 2 - low / 2) / span if span else 0.5
    return min(1.0, max(0.0, share)) if math.isfinite(share) else 0.5


def _told(value: float | None) -> str:
    return "no number" if value is None else in_short(value)
