"""What a run has logged that is no curve: single values, tables, images, confusion matrices."""

from __future__ import annotations

import base64
import itertools
import json
import math
import mimetypes
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctf.client.hpctf.artifacts import place_of
from hpctf.common.units import number
from hpctf.run_folder.ownership import open_of_run
from hpctf.tracking.curves import is_curve

if TYPE_CHECKING:
    from hpctf.client.hpctf.series import Series

MOST_ROWS = 200
LARGEST_IMAGE = 400_000
"""Bytes of an image that goes into the page."""

ALL_IMAGES = 8_000_000
SHADES = 10

_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")


@dataclass(frozen=True)
class Table:
    """Rows of cells, and how many more there are that are not shown."""

    name: str
    columns: list[str]
    rows: list[list[str]]
    left_out: int = 0


@dataclass(frozen=True)
class Image:
    """An image: ``data_uri`` is its content; where it is too large or gone, ``why`` says so."""

    name: str
    file: str
    step: int | None
    data_uri: str = ""
    why: str = ""


@dataclass(frozen=True)
class Matrix:
    """A confusion matrix: rows are true classes; ``shades`` run from 0 to `SHADES`."""

    name: str
    step: int | None
    labels: list[str]
    rows: list[list[str]]
    shades: list[list[int]]


@dataclass(frozen=True)
class Logged:
    """All of it, in the order in which names came."""

    values: list[tuple[str, str]] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    images: list[Image] = field(default_factory=list)
    matrices: list[Matrix] = field(default_factory=list)


def logged_of(folder: Path, series: dict[str, Series], constants: Iterable[Series]) -> Logged:
    """Return what is in a run's series besides curves; `folder` has the images. Metrics that never
    change, the `constants`, are values."""
    found = Logged()
    room = ALL_IMAGES
    never_change = {one.name for one in constants}
    for name, one in series.items():
        if is_curve(one) and name not in never_change:
            continue
        if one.kind == "value" and (len(one.values) == 1 or name in never_change):
            found.values.append((name, shown(one.values[0])))
        elif one.kind == "image":
            for file, step in zip(one.values, one.steps, strict=True):
                found.images.append(_image(folder, name, str(file), step, room))
                room -= len(found.images[-1].data_uri)
        elif one.kind == "confusion_matrix" and _is_matrix(one.values[-1]):
            found.matrices.append(_matrix(name, one.values[-1], one.steps[-1]))
        else:
            found.tables.append(_table(name, one))
    return found


def shown(value: Any) -> str:
    """Return a value as people read it: six digits of a number, the words of a text."""
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, float):
        return number(value)
    return value if isinstance(value, str) else json.dumps(value, default=str)


def _table(name: str, series: Series) -> Table:
    columns = columns_of(series)
    height = max((len(column) for column in columns.values()), default=0)
    cells = [map(shown, column[:MOST_ROWS]) for column in columns.values()]
    rows = [list(row) for row in itertools.zip_longest(*cells, fillvalue="")]
    return Table(name, list(columns), rows, max(0, height - MOST_ROWS))


def columns_of(series: Series) -> dict[str, list[Any]]:
    """Return what a table shows of a series, by column; columns may differ in length."""
    if series.kind == "value":
        return {"step": list(series.axis()), series.name: list(series.values)}
    found = series.metric()
    if series.kind == "list":
        return {"place": list(range(len(found))), series.name: found}
    if not isinstance(found, dict):
        return {series.name: found if isinstance(found, list) else [found]}
    return {str(key): value if isinstance(value, list) else [value] for key, value in found.items()}


def _image(folder: Path, name: str, file: str, step: int | None, room: int) -> Image:
    kind = mimetypes.guess_type(file)[0]
    try:
        with open_of_run(place_of(str(folder), file)) as stream:
            size = os.fstat(stream.fileno()).st_size
            if kind not in _IMAGES:
                return Image(name, file, step, why="of a kind that is not shown here")
            if size > min(LARGEST_IMAGE, room):
                return Image(name, file, step, why=f"too large to be shown here ({size:,} bytes)")
            text = base64.b64encode(stream.read(size)).decode()
    except (OSError, ValueError) as error:
        return Image(name, file, step, why=f"cannot be read: {error}")
    return Image(name, file, step, data_uri=f"data:{kind};base64,{text}")


def _is_matrix(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("matrix"), list)


def _matrix(name: str, value: dict[str, Any], step: int | None) -> Matrix:
    """Return a matrix whose cells are shaded by their part of their row, which is their class."""
    shades = []
    for row in value["matrix"]:
        numbers = [_count(cell) for cell in row]
        whole = sum(numbers) or 1
        shades.append([round(SHADES * cell / whole) for cell in numbers])
    rows = [[shown(cell) for cell in row] for row in value["matrix"]]
    labels = [shown(label) for label in value.get("class_labels") or range(len(rows))]
    return Matrix(name, step, labels, rows, shades)


def _count(cell: Any) -> float:
    known = isinstance(cell, (int, float)) and math.isfinite(cell) and cell > 0
    return float(cell) if known else 0.0
