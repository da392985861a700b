"""Which metrics belong in one chart: train and validation of one metric, and Keras's twins of it.

``fit`` with the TensorBoard callback leaves a metric up to four times: ``accuracy``,
``train/epoch_accuracy``, ``validation/epoch_accuracy``, ``evaluation_accuracy_vs_iterations``.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from hpctf.client.hpctf.columns import Numbers

if TYPE_CHECKING:
    from hpctf.client.hpctf.series import Series

_HELD_OUT = re.compile(r"(?:val|validation|eval|evaluation|test)[_/]")
_TRAINING = re.compile(r"(?:train|training)[_/]")
_OF_KERAS = re.compile(r"epoch_(?=\w)")
_BY_STEP = "_vs_iterations"
_FIRST = ("loss", "accuracy", "acc", "auc", "f1", "precision", "recall")
_LAST = ("learning_rate", "lr", "iterations", "steps_per_second", "epoch_time")


@dataclass(frozen=True)
class Chart:
    """Metrics that are drawn together, by the name that they share."""

    title: str
    series: tuple[Series, ...]


@dataclass(frozen=True)
class Charts:
    """What is drawn, the important ones first, and what is a number: values that never change."""

    charts: tuple[Chart, ...]
    constants: tuple[Series, ...]


def charts_of(series: Mapping[str, Series]) -> Charts:
    """Return what of a run's metrics is drawn together, and what is constant.

    A metric that Keras wrote under two names is drawn once, under the plainer one.
    """
    groups: dict[str, dict[bool, list[Series]]] = {}
    constants: list[Series] = []
    for name, one in series.items():
        if not _is_curve(one):
            continue
        if _is_constant(one):
            constants.append(one)
            continue
        base, held_out = parts_of(name)
        groups.setdefault(base, {}).setdefault(held_out, []).append(one)
    charts = [
        Chart(base, tuple(kept for side in sorted(sides) for kept in _without_twins(sides[side])))
        for base, sides in groups.items()
    ]
    return Charts(tuple(sorted(charts, key=lambda chart: _place(chart.title))), tuple(constants))


def primary_of(names: Iterable[str]) -> str | None:
    """Return the metric that says most of a run: accuracy before loss, held-out data before train;
    else the first one. None if there is none."""

    def place(name: str) -> tuple[bool, bool, bool]:
        base, held_out = parts_of(name)
        return "accuracy" not in base and base != "acc", "loss" not in base, not held_out

    return min(names, key=place, default=None)


def parts_of(name: str) -> tuple[str, bool]:
    """Return the metric that a name is about, and whether it is measured on held-out data."""
    held_out = False
    plain = name.removesuffix(_BY_STEP)
    while (shorter := _without_prefix(plain)) != plain:
        held_out = held_out or _HELD_OUT.match(plain) is not None
        plain = shorter
    return plain or name, held_out


def _without_prefix(name: str) -> str:
    for pattern in (_HELD_OUT, _TRAINING, _OF_KERAS):
        found = pattern.match(name)
        if found and found.end() < len(name):
            return name[found.end() :]
    return name


def _without_twins(same: list[Series]) -> Iterable[Series]:
    """Leave out what Keras has written once more: by its names, or with the same values."""
    plainest = min(same, key=lambda one: len(one.name))
    for one in same:
        keras = _BY_STEP in one.name or "epoch_" in one.name
        if one is plainest or not (keras or list(one.values) == list(plainest.values)):
            yield one


def _is_curve(series: Series) -> bool:
    if series.kind != "value" or len(series.values) < 2:
        return False
    return isinstance(series.values, Numbers) or len(list(filter(_is_number, series.values))) > 1


def _is_constant(series: Series) -> bool:
    first = series.values[0]
    return _is_number(first) and all(value == first for value in series.values)


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _place(title: str) -> tuple[int, int]:
    """Return where a chart stands: what everybody looks at first, then as it was logged."""
    if title in _FIRST:
        return 0, _FIRST.index(title)
    if any(word in title for word in ("loss", "accuracy")):
        return 1, 0
    return (3, 0) if title.rpartition("/")[2] in _LAST else (2, 0)
