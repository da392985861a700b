"""Samples of a long run: a bounded number, evenly over its time, however long it goes on."""

from __future__ import annotations

import json

from hpctf.common.files import read_records, write_atomic

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

MOST = 500
"""Rows of a rank's file of samples; `thin` leaves half of them at most."""


def count_rows(path: str) -> int:
    """Return how many rows a file of samples has."""
    return sum("row" in record for record in read_records(path))


def thin(path: str) -> int:
    """Join neighbouring rows of a file of samples, and return how many rows are left.

    What is joined covers an equal share of the run's time, so that old rows and new ones are alike.
    Rows of different starts stay apart.
    """
    records = list(read_records(path))
    times = [record["time"] for record in records if "time" in record]
    share_s = 4 * (max(times) - min(times)) / MOST if times else 0.0
    kept: list[dict[str, Any]] = []
    began = at = 0.0
    for record in records:
        row, now = record.get("row"), float(record.get("time") or at)
        before = kept[-1].get("row") if kept else None
        if row is not None and before is not None and now - began <= share_s:
            kept[-1] = {**record, "row": _joined(before, at - began, row, now - at)}
        else:
            began = at if row is not None else now
            kept.append(record)
        at = now
    lines = (json.dumps(record, separators=(",", ":")) + "\n" for record in kept)
    write_atomic(path, "".join(lines))
    return sum("row" in record for record in kept)


def _joined(a: dict[str, Any], a_s: float, b: dict[str, Any], b_s: float) -> dict[str, Any]:
    """Return two rows as one: rates are the mean over their seconds, amounts the larger ones."""
    joined = {**a, **b}
    for key in a.keys() & b.keys():
        if key == "cpu" or key.endswith("_use"):
            joined[key] = round((a[key] * a_s + b[key] * b_s) / max(a_s + b_s, 1e-3), 3)
        elif isinstance(b[key], (int, float)):
            joined[key] = max(a[key], b[key])
    return joined
