"""Curves in the terminal."""

from __future__ import annotations

import math
import shutil
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from hpctf.common.terminal import visible

WIDTH, HEIGHT = 80, 18
"""Columns and lines of a plot that goes into a pipe, and the lines of one in a terminal."""


class Curve(NamedTuple):
    """A curve's name, which may be empty, its steps and its values."""

    label: str
    steps: Sequence[int]
    values: Sequence[Any]


def draw(
    title: str,
    curves: Sequence[Curve],
    *,
    log_scale: bool = False,
    width: int | None = None,
    height: int = HEIGHT,
    colour: bool | None = None,
) -> str:
    """Return curves as text.

    Parameters
    ----------
    log_scale
        Whether the values' axis is logarithmic; values that are not above 0 are left out then.
    width, height
        Columns and lines; by default the terminal's width.
    colour
        Whether it has colours; by default if stdout is a terminal.
    """
    import plotext

    plotext.clear_figure()
    plotext.theme("pro")
    columns = shutil.get_terminal_size((WIDTH, HEIGHT)).columns
    plotext.plotsize(width or columns, height)
    plotext.title(visible(title))
    if log_scale:
        plotext.yscale("log")
    for curve in curves:
        steps, values = _drawable(curve, log_scale)
        if values:
            plotext.plot(steps, values, label=visible(curve.label) or None, marker="braille")
    text: str = plotext.build()
    if not (sys.stdout.isatty() if colour is None else colour):
        text = plotext.uncolorize(text)
    return "\n".join(line.rstrip() for line in text.splitlines())


def _drawable(curve: Curve, log_scale: bool) -> tuple[list[int], list[float]]:
    points = [
        (step, float(value))
        for step, value in zip(curve.steps, curve.values, strict=True)
        if isinstance(value, (int, float))
        and math.isfinite(value)
        and not (log_scale and value <= 0)
    ]
    return [step for step, _ in points], [value for _, value in points]
