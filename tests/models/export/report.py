"""The page of exported kinds of models, made from a run of the tests of exports."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.measured import DOCS, Measurements, table, where_and_when

_FILE = DOCS / "onnx.md"

_HEAD = """# Exported kinds of models

How closely `hpctf models export` ([models](models.md#export-to-onnx)) reproduces each kind of
model, with the TensorFlow and Keras that saved it. This page comes from a run of
`tests/models/export`, {date}:

    make correctness

Each number is the largest difference between the model's answers and those of ONNX Runtime, for
batches of 1, 7 and 64. The bound is 1e-05, and 1e-03 for the model in mixed precision. On CPUs,
TensorFlow 2.15 adds up in half precision. A model that differs by more there is exported only if
the exported one is closer to the model in single precision than the model itself is;
`hpctf models export` prints both differences.

"""

_VARIANTS = """
## Smaller variants

The results of `--quantize int8` and `--quantize fp16` with TensorFlow 2.21 and `--within 0.05`:
the size of the model and of its variant, how many times as fast the variant answers a batch of 64
(measured beside other work), and the largest difference from the model. The models are
tiny, so a variant may add more to the graph than it saves.

"""

_LARGE = """
## Large models

Weights of more than 256 MB lie in a file, not in the graph, while a model is converted. Measured
with a model of 2.2 GB (an embedding and seven dense layers, TensorFlow 2.21), whose export has its
weights in a file beside it and differs by 1.5e-08. The figures are the process's own memory; pages
of files come on top, and the kernel takes these back where memory is short.

| step | memory |
|---|---|
| Keras loads the model, answers, and writes a SavedModel | 6.9 GB; once it is loaded, 2.4 GB |
| tf2onnx converts the SavedModel | 3.2 GB |
| ONNX Runtime loads the export and answers | 1.4 GB |
"""

KIND, VARIANT = "kind", "variant"
"""What a row that a test has noted is about."""


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
        kinds = [row for row in rows if row[0] == KIND]
        variants = [row for row in rows if row[0] == VARIANT]
        text = _HEAD.format(**where_and_when()) + _table(kinds)
        _FILE.write_text(text + _VARIANTS + _table(variants) + _LARGE)
        terminalreporter.write_line(f"{_FILE}: measured anew.")


def _table(rows: list[tuple[Any, ...]]) -> str:
    """Return a table with a line for each kind, and a column for what it was exported with."""
    titles = list(dict.fromkeys(row[2] for row in rows))
    found = {(kind, title): what for _, kind, title, what in rows}
    lines = [
        [f"`{kind}`", *(found.get((kind, title), "") for title in titles)]
        for kind in dict.fromkeys(row[1] for row in rows)
    ]
    return table(" | ".join(["kind", *titles]), lines)
