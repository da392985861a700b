"""Curves in the terminal: braille dots, two by four a character."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from itertools import groupby, zip_longest
from typing import Any, NamedTuple

from rich.text import Text

from hpctf.common.units import in_short

_COLORS = ("cyan", "yellow", "magenta", "green", "red", "blue")
_DOTS = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))
"""Bits of a braille character's dots, by row and column (Unicode, U+2800)."""
_BLANK = 0x2800
_LABEL = 8
"""Width of the numbers beside the axis."""
_BETWEEN = 4
"""Lines from one of these numbers to the next."""
_WITH_MIDDLE = 50
"""Columns of a plot whose middle is named, too."""


class Curve(NamedTuple):
    """A name and its points; what is no finite number among the values is left out."""

    name: str
    xs: Sequence[float]
    ys: Sequence[Any]


def legend(curves: Sequence[Curve]) -> list[Text]:
    """Return the names of curves with their last values, in their colors."""
    return [
        Text(f"{curve.name} {in_short(curve.ys[-1]) if curve.ys else ''}".strip(), color(owner))
        for owner, curve in enumerate(curves)
    ]


def color(owner: int) -> str:
    """Return the color of a curve, by its place."""
    return _COLORS[owner % len(_COLORS)]


def plot(
    curves: Sequence[Curve], width: int, height: int, *, log_scale: bool = False
) -> list[Text]:
    """Return `height` lines of at most `width` columns: the curves, and their axes' ends.

    On a logarithmic scale, values that are not above 0 are left out.
    """
    drawn = [_points(curve, log_scale) for curve in curves]
    columns, rows = width - _LABEL - 1, height - 1
    if not any(drawn) or columns < 4 or rows < 1:
        return [Text() for _ in range(height)]
    xs, ys = zip(*(point for points in drawn for point in points), strict=True)
    left, right, low, high = min(xs), max(xs), min(ys), max(ys)

    canvas = _Canvas(columns, rows)
    for owner, points in enumerate(drawn):
        canvas.draw(
            [
                (_scaled(x, left, right, 2 * columns), _scaled(y, high, low, 4 * rows))
                for x, y in points
            ],
            owner,
        )
    lines = []
    for row in range(rows):
        label = ""
        if row == rows - 1 or (row % _BETWEEN == 0 and row < rows - 2):
            value = high - (high - low) * row / max(1, rows - 1)
            label = in_short(10**value if log_scale else value)
        lines.append(Text.assemble((f"{label[:_LABEL]:>{_LABEL}}│", "dim"), canvas.line(row)))

    first, last = in_short(left), in_short(right)
    room = max(1, columns - len(first) - len(last))
    middle = in_short((left + right) / 2) if columns >= _WITH_MIDDLE else ""
    axis = f"{first}{middle:^{room}}{last}"[:columns]
    return [*lines, Text(f"{'':{_LABEL}}└{axis}", "dim", no_wrap=True)]


def titled(
    curves: Sequence[Curve], width: int, height: int, *, log_scale: bool = False
) -> list[Text]:
    """Return a plot under the names of its curves, one beside the other where there is room."""
    names = legend(curves)
    line = Text("  ", no_wrap=True).join(names)
    heads = [line] if line.cell_len <= width else names
    return [*heads, *plot(curves, width, height, log_scale=log_scale)]


def beside(plots: Sequence[list[Text]], across: int, width: int) -> Iterator[Text]:
    """Yield the lines of plots, so many side by side, each `width` columns wide, with an empty line
    under each row of them."""
    for first in range(0, len(plots), across):
        row = plots[first : first + across]
        for parts in zip_longest(*row, fillvalue=Text()):
            line = Text(no_wrap=True)
            for part in parts:
                copy = part.copy()
                copy.pad_right(max(0, width - copy.cell_len))
                line.append_text(copy)
            yield line
        yield Text()


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
                row, column = y // 4, x // 2
                if not self._dots[row][column]:
                    self._owners[row][column] = owner
                self._dots[row][column] |= _DOTS[y % 4][x % 2]
            before = point

    def line(self, row: int) -> Text:
        """Return one line of characters."""
        text = Text(no_wrap=True)
        cells = zip(self._dots[row], self._owners[row], strict=True)
        for owner, part in groupby(cells, key=lambda cell: cell[1]):  # few colors, few bytes
            dots = "".join(chr(_BLANK + dots) if dots else " " for dots, _ in part)
            text.append(dots, color(owner))
        return text


def _points(curve: Curve, log_scale: bool) -> list[tuple[float, float]]:
    return [
        (x, math.log10(y) if log_scale else y)
        for x, y in zip(curve.xs, curve.ys, strict=True)
        if isinstance(y, (int, float)) and math.isfinite(y) and not (log_scale and y <= 0)
    ]


def _scaled(value: float, first: float, last: float, dots: int) -> int:
    """Return which of so many dots stands for a value between two others."""
    if first == last:
        return dots // 2
    return round((value - first) / (last - first) * (dots - 1))
