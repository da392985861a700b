"""An experiment's runs by their tags and properties, and as a table."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpctf.errors import UsageError, did_you_mean
from hpctf.run_folder.layout import RunFolder, run_folders
from hpctf.runs.search.filters import Facts
from hpctf.runs.status.listing import list_runs, readable_runs
from hpctf.runs.status.state import STATES
from hpctf.tracking.metrics import Reading

Wanted = Mapping[str, Any] | str | None
"""A mapping of values by key, all of which are wanted, or a key."""


def readable(root: Path, experiment: str, status: str | None = None) -> list[RunFolder]:
    """Return an experiment's runs, the latest first, in one state if one is given; warn of those
    that cannot be read.

    Raises
    ------
    UsageError
        There is no such state.
    """
    if status is not None and status not in STATES:
        raise UsageError(
            f"There is no status {status!r}.{did_you_mean(status, list(STATES))}",
            f"It is one of {', '.join(STATES)}.",
        )
    if status is None:
        folders = list(run_folders(root, experiment))
    else:
        folders = [one.folder for one in list_runs(root, experiment, [status])]
    return readable_runs(folders, lambda text: warnings.warn(text, RuntimeWarning, stacklevel=2))


def row_of(facts: Facts) -> dict[str, Any]:
    """Return a run's row of a table: what a listing shows, its parameters, tags, last metrics."""
    details = facts.run.details
    started, ended = details["submitted"], details["ended"]
    return {
        **details,
        "seconds": max(0.0, ended - started) if started and ended else None,
        **{f"param:{name}": value for name, value in facts.parameters.items()},
        **{f"tag:{name}": value for name, value in facts.tags.items()},
        **{name: last.value for name, last in facts.metrics.items()},
    }


def has_labels(run: Reading, tags: Wanted, properties: Wanted) -> bool:
    """Whether a run or child run has these tags and properties."""
    return _fits(run, tags, Reading.get_tags) and _fits(run, properties, Reading.get_properties)


def _fits(run: Reading, wanted: Wanted, get: Any) -> bool:
    if not wanted:
        return True
    found = get(run)
    if isinstance(wanted, str):
        return wanted in found
    for key, value in wanted.items():  # which may have come from the command line as text
        if key not in found or (found[key] != value and str(found[key]) != str(value)):
            return False
    return True
