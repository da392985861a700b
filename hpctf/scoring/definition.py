"""What a scoring run scores: ``score.json`` in its folder, which its workers read as well."""

from __future__ import annotations

import os
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from hpctf.agents.ledger import LEDGER, SharedLedger
from hpctf.common.files import read_json, write_json
from hpctf.common.forms import FormError, checked
from hpctf.errors import UnreadableRun, UsageError
from hpctf.run_folder.documents import FORMAT
from hpctf.run_folder.layout import SCORING, RunFolder
from hpctf.scoring.progress import Progress

Format = Literal["npy", "csv", "parquet"]
FORMATS: tuple[Format, ...] = ("npy", "csv", "parquet")
"""What the output is written as."""


@dataclass(frozen=True)
class Definition:
    """What a scoring run does.

    Parameters
    ----------
    run
        Its id, by which it knows the output that it has written.
    model
        ``id`` (``digits:3``), ``kind`` and ``path`` of the registered model, and what loads it if
        it is not ONNX (`hpctf.scoring.worker.tensorflow_model`).
    files
        The inputs' absolute paths, in the order of the output.
    out
        The folder to write, which is there once all is done.
    rows_per_part, batch_size
        Rows of a part, and rows that the model is given at a time; None: by their size.
    columns
        Of tables, the columns that are the model's one input.
    per_job
        How many agents share a job.
    resumed
        The runs that this one goes on with: it may replace their output.
    python
        The interpreter that was requested.
    """

    run: str
    model: dict[str, Any]
    files: list[str]
    out: str
    format: str = "npy"
    rows_per_part: int | None = None
    batch_size: int | None = None
    columns: list[str] = field(default_factory=list)
    per_job: int = 1
    resumed: list[str] = field(default_factory=list)
    python: str | None = None
    version: int = FORMAT


class Scoring:
    """A scoring run, by its run folder.

    Raises
    ------
    UsageError
        The run scores nothing.
    UnreadableRun
        ``score.json`` is damaged.
    """

    def __init__(self, folder: RunFolder) -> None:
        self.folder = folder
        if not folder.is_scoring:
            raise UsageError(f"Run {folder.id} is not a scoring run (hpctf score).")
        self.definition = _read(folder)
        self.ledger = SharedLedger(folder.path / LEDGER, Progress())


def write_definition(folder: RunFolder, definition: Definition) -> None:
    """Write ``score.json``."""
    write_json(folder.path / SCORING, asdict(definition), shared=True)


def _read(folder: RunFolder) -> Definition:
    try:
        found = checked(read_json(folder.path / SCORING), Definition)
        return Definition(**{name: found[name] for name in Definition.__dataclass_fields__})
    except OSError as error:
        wrong = f"it cannot be opened: {error.strerror or error}"
    except FormError as error:
        wrong = f"{error}: it is damaged, or not a file of hpctf's"
    except ValueError:
        wrong = "it is not a whole JSON document"
    raise UnreadableRun(os.fspath(folder.path), SCORING, wrong)
