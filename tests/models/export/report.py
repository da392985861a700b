"""The page of exported kinds of models, made from a run of the tests of exports."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.measured import DOCS, Measurements, table, where_and_when

_FILE = DOCS / "onnx.md"

_HEAD = """# Exported kinds of models

What `hpctf models export` makes of each kind of model ([models](models.md#export-to-onnx)), with
the TensorFlow and Keras that wrote it. Made from a run of `tests/models/export`, {date}:

    make correctness

The numbers are the largest difference between what the model answers and what ONNX Runtime answers,
for batches of 1, 7 and 64. The bound is 1e-05, and 1e-03 for the model in mixed precision.

"""


class Exports(Measurements):
    """Writes the file, if every test has passed."""

    def __init__(self) -> None:
        super().__init__("export")

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write the file."""
        rows = self.rows.get("test_kinds", [])
        if self.failed or not rows:
            terminalreporter.write_line(f"{_FILE} stays as it was: not every test has passed.")
            return
        _FILE.write_text(_HEAD.format(**where_and_when()) + _table(rows))
        terminalreporter.write_line(f"{_FILE}: measured anew.")


def _table(rows: list[tuple[Any, ...]]) -> str:
    versions = list(dict.fromkeys(row[1] for row in rows))
    found = {(kind, version): f"{what} ({by})" for kind, version, what, by in rows}
    lines = [
        [f"`{kind}`", *(found.get((kind, version), "") for version in versions)]
        for kind in dict.fromkeys(row[0] for row in rows)
    ]
    titles = [f"TensorFlow {version}" for version in versions]
    return table(" | ".join(["kind", *titles]), lines)
