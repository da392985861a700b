"""Studies as CSV, JSON, and as a journal that ``optuna-dashboard`` opens."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path
from typing import Any, TextIO

from hpctf.common.secrets import hide, secrets_of_run
from hpctf.errors import UsageError
from hpctf.tracking.dataframes import csv_cell
from hpctf.tuning.methods import parse_sampler
from hpctf.tuning.overview import overview
from hpctf.tuning.results import table_of
from hpctf.tuning.search import check_installed
from hpctf.tuning.study import Study


def rows_of(study: Study) -> list[dict[str, Any]]:
    """Return a row for each trial, without what is secret; parameters are columns ``param:...``."""
    folder = study.folder
    secrets = secrets_of_run(folder.plan["entry"], folder.read_record())
    rows: list[dict[str, Any]] = hide(overview(study)["trials"], secrets)
    return table_of(rows, study.definition.metric)


def write_trials(study: Study, stream: TextIO) -> int:
    """Write a row for each trial as CSV; return how many."""
    rows = rows_of(study)
    columns = list(rows[0]) if rows else ["trial", "id", "state", study.definition.metric]
    writer = csv.DictWriter(stream, columns, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: csv_cell(cell) for name, cell in row.items()} for row in rows)
    return len(rows)


def write_json(study: Study, stream: TextIO) -> int:
    """Write a row for each trial as JSON; return how many."""
    rows = rows_of(study)
    json.dump(rows, stream, indent=2, allow_nan=True)
    stream.write("\n")
    return len(rows)


def write_journal(study: Study, path: Path) -> int:
    """Write a study as a journal of Optuna's, and return how many trials it has.

    Raises
    ------
    UsageError
        Optuna is not installed, or the file is there already.
    """
    check_installed(parse_sampler("random"))
    if os.path.lexists(path):
        raise UsageError(f"{str(path)!r} is there already.", "Name another file: --to FILE.")
    from hpctf.tuning.optuna_copy import write_copy

    write_copy(study, path)
    return len(study.ledger.progress.trials)
