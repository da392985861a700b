"""Which arrays or columns of a file are which inputs of the model, and whether they fit."""

from collections import Counter
from typing import Any, Dict, List, Tuple

import numpy as np

from .errors import Wrong
from .inputs import Source
from .models import Input

Picks = Dict[str, List[str]]
"""By the inputs' names: the array, or the columns."""


def picks_of(inputs: List[Input], source: Source, columns: List[str]) -> Picks:
    """Return where the inputs of a model are in a file.

    An array or a column is an input if it has its name. Of a model with one input, this is the
    file's one array, or all columns (or those that are named), in their order.

    Raises
    ------
    Wrong
        Something is missing, or does not fit.
    """
    if source.columns is not None:
        picks = _of_columns(inputs, source, source.columns, columns)
        times = Counter(source.columns)
        for name in (name for names in picks.values() for name in names):
            if times[name] > 1:
                raise Wrong(f"it has {times[name]} columns {name!r}: give each a name of its own")
        return picks
    assert source.arrays is not None
    found = _of_arrays(inputs, list(source.arrays))
    for one in inputs:
        tail, dtype = source.arrays[found[one.name][0]]
        _check_shape(one, tail)
        _check_type(one, dtype)
    return found


def _of_arrays(inputs: List[Input], names: List[str]) -> Picks:
    if len(inputs) == 1 and len(names) == 1:
        return {inputs[0].name: names}
    if names == [""]:
        wanted = ", ".join(one.name for one in inputs)
        raise Wrong(
            f"it holds one array, but the model takes {len(inputs)}: use a .npz with {wanted}"
        )
    for one in inputs:
        if one.name not in names:
            raise _missing("array", one.name, names)
    return {one.name: [one.name] for one in inputs}


def _of_columns(inputs: List[Input], source: Source, there: List[str], wanted: List[str]) -> Picks:
    for name in wanted:
        if name not in there:
            raise Wrong(f"it has no column {name!r}; it has {_listed(there)}")
    if len(inputs) > 1 and wanted:
        raise Wrong(
            f"columns are named for a model of {len(inputs)} inputs, each of which is the "
            "column of its name"
        )
    if not wanted and all(one.name in there for one in inputs):
        for one in inputs:
            if _size(one.tail) not in (None, 1) and not source.holds_lists:
                raise Wrong(
                    f"the model's input {one.name!r} takes {_size(one.tail)} values for each row, "
                    "but the column of its name holds one: name more with --columns"
                )
        return {one.name: [one.name] for one in inputs}
    if len(inputs) > 1:
        raise _missing("column", next(one.name for one in inputs if one.name not in there), there)
    (one,) = inputs
    names = wanted or there
    size = _size(one.tail)
    may_be_list = source.holds_lists and len(names) == 1
    if size is not None and size != len(names) and not may_be_list:
        raise Wrong(
            f"the model's input {one.name!r} takes {size} values for each row, but the number of "
            f"columns is {len(names)}: name them with --columns"
        )
    return {one.name: list(names)}


def take(
    inputs: List[Input], source: Source, picks: Picks, first: int, rows: int, offset: int
) -> Dict[str, Any]:
    """Return rows of a file, as the model takes them: an array for each input.

    Raises
    ------
    Wrong
        They do not fit.
    """
    feeds = {}
    for one in inputs:
        names = picks[one.name]
        if source.columns is None:
            array = source.array(names[0], first, rows)
        else:
            array = source.matrix(names, first, rows, offset, one.dtype)
            _check_type(one, array.dtype)
            size = _size(one.tail)
            if size is not None and array.size == rows * size:
                array = array.reshape((rows, *one.tail))  # images in a table, columns of one number
        _check_shape(one, array.shape[1:])
        feeds[one.name] = array if one.dtype.kind == "O" else array.astype(one.dtype, copy=False)
    return feeds


def _check_shape(one: Input, tail: Tuple[int, ...]) -> None:
    fits = len(tail) == len(one.tail) and all(
        wanted in (None, there) for wanted, there in zip(one.tail, tail)
    )
    if not fits:
        wanted = "({})".format(", ".join("?" if size is None else str(size) for size in one.tail))
        raise Wrong(
            "its rows have the shape {}, but the model's input {!r} takes {}".format(
                "({})".format(", ".join(map(str, tail))), one.name, wanted
            )
        )


def _check_type(one: Input, dtype: Any) -> None:
    """Refuse what would lose its meaning: text for numbers, fractions for whole numbers."""
    is_text = dtype.kind in "OSU"
    if is_text != (one.dtype.kind == "O") or not (
        is_text or np.can_cast(dtype, one.dtype, "same_kind")
    ):
        wanted = "text" if one.dtype.kind == "O" else one.dtype.name
        there = "text" if is_text else dtype.name
        raise Wrong(f"it holds {there}, but the model's input {one.name!r} takes {wanted}")


def _size(tail: Any) -> Any:
    """Return how many values a row has; None if the model does not say."""
    if None in tail:
        return None
    return int(np.prod(tail, dtype=np.int64))


def _missing(what: str, name: str, there: List[str]) -> Wrong:
    return Wrong(
        f"it has no {what} {name!r}, which is an input of the model; it has {_listed(there)}"
    )


def _listed(names: List[str]) -> str:
    more = f", and {len(names) - 20} more" if len(names) > 20 else ""
    return ", ".join(names[:20]) + more
