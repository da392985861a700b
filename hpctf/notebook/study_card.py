"""A study's card: how far it is, its best trials, and its pictures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hpctf.common.secrets import hide, secrets_of_run
from hpctf.common.units import in_short
from hpctf.notebook import study_charts
from hpctf.tuning.overview import WORDS, in_words
from hpctf.tuning.results import results
from hpctf.tuning.study import Study

if TYPE_CHECKING:
    from hpctf.runs.status.state import RunState

TRIALS = 10
"""Rows of a card: the best trials."""


def study_facts(study: Study, status: RunState | None = None) -> dict[str, Any]:
    """Return what `hpctf.tuning.results.results` tells of a study, without what is secret."""
    folder = study.folder
    secrets = secrets_of_run(folder.plan["entry"], folder.read_record())
    found: dict[str, Any] = hide(results(study, status), secrets)
    return found


def card_values(study: Study, status: RunState | None = None) -> dict[str, Any]:
    """Return what the card's template shows."""
    found = study_facts(study, status)
    rows = ranked(found)
    names = parameter_names(found)
    best = found["best"]
    return {
        "id": found["id"],
        "state": found["state"],
        "summary": in_words(found),
        "reason": "" if found["state"] == "Completed" else found["away"] or found["reason"],
        "metric": found["metric"],
        "best": None if best is None else (best["id"], in_short(best["value"])),
        "names": names,
        "rows": [
            {
                "trial": row["trial"],
                "state": WORDS.get(row["state"], row["state"]),
                "value": "" if row["value"] is None else in_short(row["value"]),
                "parameters": [told(row["parameters"].get(name)) for name in names],
                "reason": row["reason"],
            }
            for row in rows[:TRIALS]
        ],
        "more": max(0, len(rows) - TRIALS),
        "importances": importance_rows(found),
        **charts_of(found),
        "folder": found["run_folder"],
    }


def ranked(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Return a study's trials, the best first, those without a value last."""
    sign = sign_of(found)
    return sorted(
        found["trials"],
        key=lambda row: (row["value"] is None, -sign * (row["value"] or 0.0), row["trial"]),
    )


def charts_of(found: dict[str, Any]) -> dict[str, Any]:
    """Return a study's pictures: ``history``, ``slices`` by parameter, and ``parallel``."""
    rows, metric, names = found["trials"], found["metric"], parameter_names(found)
    return {
        "history": study_charts.history(found["history"], metric),
        "slices": study_charts.slices(rows, names, metric),
        "parallel": study_charts.parallel(rows, names, metric, sign_of(found)),
    }


def importance_rows(found: dict[str, Any]) -> list[tuple[str, str]]:
    """Return each parameter with its share of what mattered, in percent."""
    return [(name, f"{100 * share:.0f} %") for name, share in (found["importances"] or {}).items()]


def parameter_names(found: dict[str, Any]) -> list[str]:
    """Return the names of all parameters, in the order in which trials have them."""
    return list(dict.fromkeys(name for row in found["trials"] for name in row["parameters"]))


def sign_of(found: dict[str, Any]) -> int:
    """Return 1 if more of the metric is better, else -1."""
    return 1 if found["goal"] == "maximize" else -1


def told(value: Any) -> str:
    """Return a parameter's value as people read it."""
    if isinstance(value, float):
        return in_short(value)
    return "" if value is None else str(value)
