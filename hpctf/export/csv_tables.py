"""Runs as CSV: every number of many runs, or a row for each run."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, TextIO

from hpctf.common.secrets import HIDDEN, is_secret
from hpctf.runs.search.filters import Facts
from hpctf.runs.search.tables import row_of
from hpctf.runs.status.listing import listed
from hpctf.tracking.dataframes import COLUMNS, csv_cell

if TYPE_CHECKING:
    from hpctf.run import Run


def write_values(runs: Iterable[Run], stream: TextIO, children: bool = True) -> int:
    """Write every number that runs, and their child runs, have logged; return how many.

    Columns are ``experiment``, ``run``, then those of `Run.to_pandas`; times are seconds since the
    epoch.
    """
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("experiment", "run", *COLUMNS))
    number = 0
    for run in runs:
        for one in [run, *(run.get_children() if children else ())]:
            for row in one.rows():
                writer.writerow((run.experiment, one.id, *map(csv_cell, row)))
                number += 1
    return number


def write_runs(runs: Iterable[Run], stream: TextIO) -> int:
    """Write a row for each run, as `Experiment.to_pandas` has it; return how many."""
    rows = [_without_secrets(row_of(Facts(one))) for one in listed(run.folder for run in runs)]
    columns = list(dict.fromkeys(name for row in rows for name in row))
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(cell) for name, cell in row.items()} for row in rows)
    return len(rows)


def _without_secrets(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        name: HIDDEN if is_secret(name.removeprefix("param:").removeprefix("tag:")) else value
        for name, value in row.items()
    }
