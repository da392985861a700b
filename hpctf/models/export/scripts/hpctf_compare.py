"""How far answers are from those on record; part of ``verify.py`` and ``litert.py``."""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

import numpy as np

Ask = Callable[[Sequence[str], Dict[str, Any]], Sequence[Any]]
"""Takes the names of outputs and the inputs by name, and returns these outputs."""


def compare(ask: Ask, reference: str) -> Tuple[float, str]:
    """Return the largest difference between answers and those on record, and the output that has
    it.

    It is relative to the largest number of an output, where that is above 1. What is not a
    floating-point number must be equal: else the difference is infinite.
    """
    worst, name = 0.0, ""
    for inputs, wanted, _ in questions(reference):
        names = list(wanted)
        for one, found in zip(names, ask(names, inputs)):
            distance = difference(np.asarray(found), wanted[one])
            if not name or not distance <= worst:
                worst, name = distance, one
    return worst, name


def to_exact(ask: Ask, reference: str) -> Optional[Tuple[float, float]]:
    """Return how far answers, and those on record, are from what the model answers in single
    precision at most; None if that is not on record."""
    found = on_record = 0.0
    for inputs, wanted, exact in questions(reference):
        if not exact:
            return None
        names = list(exact)
        for one, answer in zip(names, ask(names, inputs)):
            found = max(found, difference(np.asarray(answer), exact[one]))
            on_record = max(on_record, difference(wanted[one], exact[one]))
    return found, on_record


Question = Tuple[Dict[str, Any], Dict[str, Any], Dict[str, Any]]
"""Inputs, answers, and answers in single precision where these are on record, by name."""


def questions(reference: str) -> List[Question]:
    """Return what there is of each batch."""
    found: Dict[int, Question] = {}
    with np.load(reference) as file:
        for key in file.files:
            kind, batch, name = key.split(":", 2)
            value = file[key]
            value = value.astype(object) if value.dtype.kind == "U" else value
            rooms = found.setdefault(int(batch), ({}, {}, {}))
            rooms[("in", "out", "exact").index(kind)][name] = value
    return [found[batch] for batch in sorted(found)]


def difference(found: Any, wanted: Any) -> float:
    """Return how far apart two arrays are, relative to the largest number where that is above 1."""
    if found.shape != wanted.shape:
        return float("inf")
    if wanted.dtype.kind != "f":
        return 0.0 if np.array_equal(found, wanted) else float("inf")
    finite = np.isfinite(wanted)
    if not np.array_equal(found[~finite], wanted[~finite], equal_nan=True):
        return float("inf")
    if not finite.any():
        return 0.0
    one, other = found[finite].astype("float64"), wanted[finite].astype("float64")
    distance = float(np.abs(one - other).max() / max(1.0, np.abs(other).max()))
    return distance if np.isfinite(distance) else float("inf")
