"""No cell of a CSV file is a formula to a spreadsheet, and every number stays one."""

from __future__ import annotations

import math
from typing import Any

import pytest

from hpctf.tracking.dataframes import csv_cell


@pytest.mark.parametrize(
    "text",
    ["=1+1", "+cmd", "-cmd|' /C calc'!A0", "@SUM(A1)", "\t=1", "\r=1", "-", "+", "-1+2", "--1"],
)
def test_text_that_begins_as_a_formula_is_quoted(text: str) -> None:
    assert csv_cell(text) == f"'{text}"


@pytest.mark.parametrize(
    "value", [-1, -1.5, +2, -math.inf, None, True, "-1", "-1.5e-3", "+7", "-inf", "loss", "a=b", ""]
)
def test_numbers_and_other_text_stay(value: Any) -> None:
    assert csv_cell(value) == value
