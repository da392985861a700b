"""What a study has shown, as its pictures, tables and exports tell it: plain data."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from hpctf.errors import UntrustedPath, UsageError
from hpctf.runs.status.state import RunState
from hpctf.tuning.goals import PrimaryMetricGoal
from hpctf.tuning.methods import parse_sampler
from hpctf.tuning.overview import overview
from hpctf.tuning.search import check_installed
from hpctf.tuning.study import Study

Row = dict[str, Any]

PARAMETER = "param:"
"""Begins the columns of a table of trials that are parameters, as in `Experiment.to_pandas`."""


def results(study: Study, status: RunState | None = None) -> dict[str, Any]:
    """Return `hpctf.tuning.overview.overview`, and what follows from it.

    ``history`` is a list of (trial, value, best value so far), by number; ``importances`` says how
    much each parameter mattered (PED-ANOVA), most first, and is None where Optuna is not installed.
    """
    found = overview(study, status)
    return {
        **found,
        "earlier": [one["id"] for one in study.definition.resume_from],
        "policy": str(study.definition.early_termination),
        "sampling": study.definition.parameter_sampling.word,
        "history": history(found["trials"], study.definition.primary_goal),
        "importances": importances(study),
    }


def history(rows: Sequence[Row], goal: PrimaryMetricGoal) -> list[tuple[int, float, float]]:
    """Return trial, value and best value so far of each trial that has a value."""
    found: list[tuple[int, float, float]] = []
    best: float | None = None
    for row in rows:
        value = row["value"]
        if value is None:
            continue
        if best is None or goal.sign * value > goal.sign * best:
            best = value
        found.append((row["trial"], value, best))
    return found


def importances(study: Study) -> dict[str, float] | None:
    """Return how much each parameter mattered, the most important first; nothing as long as too few
    trials have ended, and None where Optuna is not installed."""
    try:
        check_installed(parse_sampler("random"))
    except UsageError:
        return None
    from hpctf.tuning.optuna_copy import copy_of, importances_of

    try:
        return importances_of(copy_of(study))
    except UntrustedPath:  # the space is a function of somebody else's
        return {}


def table_of(rows: Sequence[Row], metric: str) -> list[Row]:
    """Return a row for each trial with plain cells: its parameters are columns of their own."""
    names = list(dict.fromkeys(name for row in rows for name in row["parameters"]))
    table = []
    for row in rows:
        parameters = {f"{PARAMETER}{name}": _cell(row["parameters"], name) for name in names}
        table.append(
            {
                "trial": row["trial"],
                "id": row["id"],
                "state": row["state"],
                metric: row["value"],
                "last": row["last"],
                "values": row["values"],
                **{f"end:{name}": value for name, value in row["objectives"].items()},
                **parameters,
                "claimed": row["claimed"],
                "ended": row["ended"],
                "attempt": row["attempt"],
                "host": row["host"],
                "job_id": row["job_id"],
                "reason": row["reason"],
            }
        )
    return table


def _cell(parameters: Mapping[str, Any], name: str) -> Any:
    value = parameters.get(name)
    return json.dumps(value) if isinstance(value, (list, dict)) else value
