"""Several runs over each other: their curves, and in what they differ."""

from __future__ import annotations

from typing import Any

Plain = dict[str, Any]


def lines_over_each_other(runs: list[Plain]) -> list[Plain]:
    """Return a panel a name, with the first line that each run has of it, called as the run."""
    found: dict[str, Plain] = {}
    for run in runs:
        for panel in run["curves"]:
            line = next(line for line in panel["lines"] if line["shown"])
            known = found.setdefault(panel["name"], {**panel, "lines": []})
            known["lines"].append({**line, "label": run["id"]})
    return list(found.values())


def differences(runs: list[Plain]) -> list[Plain]:
    """Return by subject what the runs were asked, a row a name; the parameters come first."""
    subjects = {
        "Parameters": [run["settings"]["parameters"] for run in runs],
        "Configuration": [_configuration(run["settings"]) for run in runs],
        "Code and environment": [dict(run["settings"]["software"]) for run in runs],
        "Packages": [dict(run["settings"]["packages"]) for run in runs],
    }
    return [{"name": name, "rows": _rows(columns)} for name, columns in subjects.items()]


def _configuration(settings: Plain) -> dict[str, str]:
    found = {name: value for name, value in settings["plan"] if name != "Runs"}
    found |= {f"{name}, count": count for name, count, *_ in settings["roles"]}
    for number, _, _, directives in settings["components"]:
        name = "Directives" if len(settings["components"]) == 1 else f"Directives of {number}"
        found[name] = directives
    return {**found, **dict(settings["variables"])}


def _rows(columns: list[dict[str, str]]) -> list[Plain]:
    """Return (name, values, whether they differ); a value that a run has not is None."""
    names = list(dict.fromkeys(name for column in columns for name in column))
    rows = []
    for name in names:
        values = [column.get(name) for column in columns]
        rows.append({"name": name, "values": values, "differs": len(set(values)) > 1})
    return rows
