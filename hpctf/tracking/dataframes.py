"""What runs have learned as pandas' data frames; pandas is imported when it is needed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpctf.errors import UsageError

if TYPE_CHECKING:
    from pandas import DataFrame

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a formula begins with, in one spreadsheet or another (OWASP, "CSV Injection")."""

COLUMNS = ("name", "step", "value", "time", "rank")
Row = tuple[str, int, Any, float, str]
"""A value that was logged: what `COLUMNS` says."""


def csv_cell(value: Any) -> Any:
    """Return a value for a CSV file; text that a spreadsheet would take for a formula begins with
    an apostrophe then, which it does not show. Numbers stay, also those that are text."""
    if not isinstance(value, str) or not value.startswith(_FORMULA):
        return value
    try:
        float(value)
    except ValueError:
        return f"'{value}"
    return value


def frame_of(rows: Sequence[Row]) -> DataFrame:
    """Return values that were logged (`hpctf.tracking.metrics.Reading.rows`) as a data frame; times
    are UTC."""
    pandas = _pandas()
    frame = pandas.DataFrame(rows, columns=list(COLUMNS))
    frame["time"] = pandas.to_datetime(frame["time"], unit="s", utc=True)
    return frame


def frame_of_runs(rows: Iterable[Mapping[str, Any]]) -> DataFrame:
    """Return a data frame with a row for each run, by id; times are UTC."""
    pandas = _pandas()
    frame = pandas.DataFrame(list(rows))
    for name in ("submitted", "claimed", "ended"):
        if name in frame:
            frame[name] = pandas.to_datetime(frame[name], unit="s", utc=True)
    return frame.set_index("id") if "id" in frame else frame


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise UsageError(
            "Data frames need pandas, which is not installed here.", "pip install 'hpctf[pandas]'"
        ) from None
    return pandas
