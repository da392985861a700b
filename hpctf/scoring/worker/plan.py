"""Cutting files into parts."""

import json
import os
from typing import Any, Dict, List

import numpy as np

from .errors import Fatal, Wrong
from .inputs import Source, open_source
from .models import Input
from .picks import picks_of

PLAN = "parts.json"
"""File of the run's folder: each file's size, time and rows, and for each part its file, first row,
rows and offset."""

_ROWS = 10_000
_BYTES = 256 << 20
"""The size of a part, unless it is requested: its rows, and the bytes of its inputs at most."""


def make_plan(folder: str, definition: Dict[str, Any], inputs: List[Input]) -> Dict[str, Any]:
    """Look at all files, write ``parts.json``, and return how many parts and rows there are.

    Raises
    ------
    Fatal
        A file is not what the model takes, there are no rows, or the output cannot be written here.
    """
    if definition["format"] == "parquet":
        try:
            import pyarrow  # noqa: F401
        except ImportError:
            raise Fatal(
                "The environment that scores has no pyarrow, which writes Parquet: use --format "
                "npy or csv."
            ) from None
    parts, rows, files = [], [], []
    for number, path in enumerate(definition["files"]):
        try:
            about = os.stat(path)
            files.append([about.st_size, about.st_mtime_ns])
            source = open_source(path)
            picks_of(inputs, source, definition["columns"])
        except Wrong as error:
            raise Fatal(f"Cannot score {path}: {error}.") from None
        each = definition["rows_per_part"] or _usual_rows(source, inputs)
        found = list(source.cut(each))
        rows.append(sum(part[1] for part in found))
        parts += [[number, *part] for part in found]
    if not parts:
        raise Fatal("The files have no rows: there is nothing to score.")
    hidden = os.path.join(folder, f".{PLAN}.{os.getpid()}")
    with open(hidden, "w", encoding="utf-8") as stream:
        json.dump({"files": files, "rows": rows, "parts": parts}, stream)
        stream.flush()
        os.fsync(stream.fileno())
    os.replace(hidden, os.path.join(folder, PLAN))
    return {"parts": len(parts), "rows": sum(rows)}


def _usual_rows(source: Source, inputs: List[Input]) -> int:
    """Return how many rows of a file a part has."""
    if source.arrays is not None:
        sizes = [
            np.prod(tail, dtype=np.int64) * kind.itemsize for tail, kind in source.arrays.values()
        ]
    else:
        tails = [[size or 1 for size in one.tail] for one in inputs]
        sizes = [np.prod(tail, dtype=np.int64) * 8 for tail in tails]
    return int(max(1, min(_ROWS, _BYTES // max(1, sum(sizes)))))
