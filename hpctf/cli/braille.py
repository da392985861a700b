"""Small curves for a screen that is drawn anew each second: braille dots, two by four a character.

`hpctf.cli.curves` draws what stays, by plotext, whose import takes 0.13 s.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import groupby
from typing import NamedTuple

from rich.text import Text

from hpctf.common.units import in_short

COLORS = ("cyan", "yellow", "magenta", "green", "red", "blue")
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille character's dots, by row and column (Unicode, U+2800)."""
_BLANK = 0x2800
_LABEL = 8
"""Width of the numbers beside the axis."""


class Curve(NamedTuple):
    """A name and its points."""

    name: str
    xs: Sequence[float]
    ys: Sequence[float]


def plot(curves: Sequence[Curve], width: int, height: int) -> list[Text]:
    """Return `height` lines of `width` columns: names with their last values, curves, and the axes'
    ends. Points that are no finite numbers are left out."""
    known = [_finite(curve) for curve in curves]
    title = Text(no_wrap=True)
    for owner, curve in enumerate(curves):
        last = in_short(curve.ys[-1]) if curve.ys else ""
        title.append(f"{curve.name} {last}  ", COLORS[owner % len(COLORS)])
    title.truncate(width, overflow="ellipsis")
    columns, rows = width - _LABEL - 1, height - 2
    if not any(curve.xs for curve in known) or columns < 4 or rows < 1:
        return [title, *[Text() for _ in range(height - 1)]]
    left, right = _ends([x for curve in known for x in curve.xs])
    low, high = _ends([y for curve in known for y in curve.ys])
    canvas = _Canvas(columns, rows)
    for owner, curve in enumerate(known):
        points = [
            (_scaled(x, left, right, 2 * columns), _scaled(y, high, low, 4 * rows))
            for x, y in zip(curve.xs, curve.ys, strict=True)
        ]
        canvas.draw(points, owner)
    lines = [title]
    for row in range(rows):
        label = {0: in_short(high), rows - 1: in_short(low)}.get(row, "")
        lines.append(Text.assemble((f"{label[:_LABEL]:>{_LABEL}}│", "dim"), canvas.line(row)))
    first, last = in_short(left), in_short(right)
    axis = f"{first}{last:>{max(1, columns - len(first))}}"
    lines.append(Text(f"{'':{_LABEL}}└{axis[:columns]}", "dim", no_wrap=True))
    return lines


class _Canvas:
    """Characters of dots, each of the color of the curve that came there first."""

    def __init__(self, columns: int, rows: int) -> None:
        self._columns = columns
        self._dots = [[0] * columns for _ in range(rows)]
        self._owners = [[0] * columns for _ in range(rows)]

    def draw(self, points: Sequence[tuple[int, int]], owner: int) -> None:
        """Draw the lines from point to point."""
        before = points[0] if points else (0, 0)
        for point in points:
            steps = max(abs(point[0] - before[0]), abs(point[1] - before[1]), 1)
            for step in range(steps + 1):
                x = round(before[0] + (point[0] - before[0]) * step / steps)
                y = round(before[1] + (point[1] - before[1]) * step / steps)
                self._dot(x, y, owner)
            before = point

    def line(self, row: int) -> Text:
        """Return one line of characters."""
        text = Text(no_wrap=True)
        cells = zip(self._dots[row], self._owners[row], strict=True)
        for owner, part in groupby(cells, key=lambda cell: cell[1]):  # few colors, few bytes
            dots = "".join(chr(_BLANK + dots) if dots else " " for dots, _ in part)
            text.append(dots, COLORS[owner % len(COLORS)])
        return text

    def _dot(self, x: int, y: int, owner: int) -> None:
        row, column = y // 4, x // 2
        if not self._dots[row][column]:
            self._owners[row][column] = owner
        self._dots[row][column] |= _DOTS[y % 4][x % 2]


def _finite(curve: Curve) -> Curve:
    pairs = [(x, y) for x, y in zip(curve.xs, curve.ys, strict=True) if math.isfinite(y)]
    return Curve(curve.name, [x for x, _ in pairs], [y for _, y in pairs])


def _ends(values: Sequence[float]) -> tuple[float, float]:
    return min(values), max(values)


def _scaled(value: float, first: float, last: float, dots: int) -> int:
    """Return which of so many dots stands for a value between two others."""
    if first == last:
        return dots // 2
    return round((value - first) / (last - first) * (dots - 1))
