"""Several objectives: what trials have at their end, and which of them no other one beats."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from hpctf.run_folder.layout import RunFolder
from hpctf.tracking.metrics import Reading
from hpctf.tuning.goals import PrimaryMetricGoal


def values_at_end(trial: RunFolder, names: Sequence[str]) -> dict[str, float]:
    """Return the last value of each metric that a trial has logged, as far as it is finite."""
    series = Reading(trial.path).series()
    found = {}
    for name in names:
        one = series.get(name)
        if one is None or one.kind != "value" or not isinstance(one.values[-1], (int, float)):
            continue
        if math.isfinite(one.values[-1]):
            found[name] = float(one.values[-1])
    return found


def front(
    rows: Sequence[dict[str, Any]], goals: Mapping[str, PrimaryMetricGoal]
) -> list[dict[str, Any]]:
    """Return the rows of trials that no other trial beats in all objectives (the Pareto front)."""
    whole = [row for row in rows if goals.keys() <= row["objectives"].keys()]
    points = [[goals[name].sign * row["objectives"][name] for name in goals] for row in whole]
    return [
        row
        for row, point in zip(whole, points, strict=True)
        if not any(_beats(other, point) for other in points)
    ]


def _beats(one: Sequence[float], other: Sequence[float]) -> bool:
    """Whether a point is as good as another everywhere, and better somewhere."""
    return list(one) != list(other) and all(a >= b for a, b in zip(one, other, strict=True))
