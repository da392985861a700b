"""A study's pictures in SVG, for its card and its report: history, slices, parallel coordinates."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from markupsafe import Markup

from hpctf.common.units import in_short

WIDTH, HEIGHT = 300, 150
_LEFT, _BELOW, _EDGE = 52, 18, 6
"""Pixels for the numbers beside and below a chart, and at its edges."""

MOST_LINES = 200
"""Trials of parallel coordinates: the best ones."""

MOST_NAMES = 12
"""Values of a parameter that are named on its axis."""

_LOGARITHMIC = 50.0
"""From which ratio of its ends an axis of positive numbers is logarithmic."""

Row = dict[str, Any]


class Axis(NamedTuple):
    """Where values lie along an axis, from 0 to 1.

    Parameters
    ----------
    marks
        What is written at which places.
    names
        The values by their places, where they are not numbers.
    """

    marks: list[tuple[float, str]]
    low: float = 0.0
    high: float = 1.0
    is_log: bool = False
    names: tuple[str, ...] = ()

    def place(self, value: Any) -> float:
        """Return where a value lies."""
        if self.names:
            last = max(1, len(self.names) - 1)
            return self.names.index(_name(value)) / last if len(self.names) > 1 else 0.5
        if self.low == self.high:
            return 0.5
        if self.is_log:
            return math.log(value / self.low) / math.log(self.high / self.low)
        return (float(value) - self.low) / (self.high - self.low)


def axis_of(values: Sequence[Any]) -> Axis:
    """Return the axis of values: a logarithmic one where they span powers of ten."""
    if all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in values):
        low, high = float(min(values)), float(max(values))
        is_log = low > 0 and high / low >= _LOGARITHMIC
        return Axis([(0.0, in_short(low)), (1.0, in_short(high))], low, high, is_log)
    names = tuple(sorted({_name(value) for value in values}))
    axis = Axis([], names=names)
    shown = names if len(names) <= MOST_NAMES else (names[0], names[-1])
    marks = [(names.index(name) / max(1, len(names) - 1), name[:12]) for name in shown]
    return axis._replace(marks=[(0.5, names[0][:12])] if len(names) == 1 else marks)


def history(points: Sequence[tuple[int, float, float]], metric: str) -> Markup:
    """Return each trial's value as a dot, and the best value so far as a line."""
    if not points:
        return Markup("")
    across = axis_of([number for number, _, _ in points])._replace(is_log=False)
    up = axis_of([value for _, value, _ in points])
    line: list[tuple[float, float]] = []
    for number, _, best in points:
        if line:
            line.append((_x(across.place(number)), line[-1][1]))
        line.append((_x(across.place(number)), _y(up.place(best))))
    dots = [(_x(across.place(number)), _y(up.place(value))) for number, value, _ in points]
    title = f"History: {metric} of {len(points)} trials, the best {in_short(points[-1][2])}"
    return _chart(title, [_dots(dots), _line(line, "hpctf-best")], across, up)


def slice_of(name: str, pairs: Sequence[tuple[Any, float]], metric: str) -> Markup:
    """Return the metric over one parameter: a dot for each trial."""
    across, up = axis_of([value for value, _ in pairs]), axis_of([y for _, y in pairs])
    dots = [(_x(across.place(value)), _y(up.place(y))) for value, y in pairs]
    title = f"{metric} over {name}, {len(pairs)} trials"
    return _chart(title, [_dots(dots)], across, up)


def slices(rows: Sequence[Row], names: Sequence[str], metric: str) -> list[tuple[str, Markup]]:
    """Return a slice for each parameter, by its name."""
    found = []
    for name in names:
        valued = [row for row in rows if row["value"] is not None and name in row["parameters"]]
        if valued:
            pairs = [(row["parameters"][name], row["value"]) for row in valued]
            found.append((name, slice_of(name, pairs, metric)))
    return found


def parallel(rows: Sequence[Row], names: Sequence[str], metric: str, sign: int) -> Markup:
    """Return parallel coordinates: an axis for each parameter and one for the metric, and a line
    for each trial; those of the best tenth are marked."""
    valued = [
        row
        for row in rows
        if row["value"] is not None and all(name in row["parameters"] for name in names)
    ]
    if len(valued) < 2 or not names:
        return Markup("")
    ranked = sorted(valued, key=lambda row: -sign * row["value"])[:MOST_LINES]
    columns = [[row["parameters"][name] for row in ranked] for name in names]
    columns.append([row["value"] for row in ranked])
    axes = [axis_of(column) for column in columns]
    width = max(WIDTH, 110 * len(axes))
    height = HEIGHT + 40
    places = [_LEFT + (width - 2 * _LEFT) * n / (len(axes) - 1) for n in range(len(axes))]

    def up(axis: Axis, value: Any) -> float:
        return 20 + (height - 40) * (1 - axis.place(value))

    parts = []
    best = max(1, len(ranked) // 10)
    for rank in reversed(range(len(ranked))):  # the best on top
        points = [(x, up(a, c[rank])) for x, a, c in zip(places, axes, columns, strict=True)]
        parts.append(_line(points, "hpctf-best" if rank < best else "hpctf-one"))
    for x, axis, name in zip(places, axes, [*names, metric], strict=True):
        parts.append(
            Markup('<line class="hpctf-axis" x1="{0:.1f}" x2="{0:.1f}" y1="20" y2="{1}"/>').format(
                x, height - 20
            )
        )
        parts.append(_text(x, 11, name[:18], "middle"))
        marks = [axis.marks[0], axis.marks[-1]] if len(axis.marks) > 1 else axis.marks
        for place, words in marks:
            y = 20 + (height - 40) * (1 - place)
            parts.append(_text(x + 4, y + (10 if place == 0 else 9), words, "start"))
    title = f"Parallel coordinates of {len(ranked)} trials; the best {best} are marked"
    return _svg(width, height, title, parts)


def _chart(title: str, parts: list[Markup], across: Axis, up: Axis) -> Markup:
    """Return a chart with its two axes."""
    bottom = HEIGHT - _BELOW
    frame = Markup('<path class="hpctf-axis" d="M{0} {1}V{2}H{3}"/>').format(
        _LEFT, _EDGE, bottom, WIDTH - _EDGE
    )
    words = [frame]
    for place, text in across.marks:
        anchor = "start" if place < 0.2 else "end" if place > 0.8 else "middle"
        words.append(_text(_x(place), HEIGHT - 4, text, anchor))
    for place, text in up.marks:
        words.append(_text(_LEFT - 4, _y(place) + 4, text, "end"))
    return _svg(WIDTH, HEIGHT, title, [*words, *parts])


def _svg(width: int, height: int, title: str, parts: Sequence[Markup]) -> Markup:
    return Markup(
        '<svg class="hpctf-chart" role="img" width="{w}" height="{h}" viewBox="0 0 {w} {h}">'
        "<title>{title}</title>{parts}</svg>"
    ).format(w=width, h=height, title=title, parts=Markup("").join(parts))


def _dots(points: Sequence[tuple[float, float]]) -> Markup:
    return Markup("").join(
        Markup('<circle cx="{:.1f}" cy="{:.1f}" r="2.5"/>').format(x, y) for x, y in points
    )


def _line(points: Sequence[tuple[float, float]], kind: str) -> Markup:
    text = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
    return Markup('<polyline class="{}" points="{}"/>').format(kind, text)


def _text(x: float, y: float, words: str, anchor: str) -> Markup:
    return Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(
        x, y, anchor, words
    )


def _x(place: float) -> float:
    return _LEFT + _EDGE + (WIDTH - _LEFT - 3 * _EDGE) * place


def _y(place: float) -> float:
    return 2 * _EDGE + (HEIGHT - _BELOW - 3 * _EDGE) * (1 - place)


def _name(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
