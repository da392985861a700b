"""docs/correctness.md, made from a run of the tests of correctness."""

from __future__ import annotations

from typing import Any

import pytest

from tests.correctness.cells import BACKENDS, EXACT, LIBRARIES
from tests.support.measured import DOCS, Measurements, table, where_and_when

_FILE = DOCS / "correctness.md"
_SCRIPTS = "../tests/correctness/scripts"

_HEAD = """# Correctness

Each backend, with each Keras and with TensorFlow alone, either trains correctly or is refused.
This page comes from a run of `tests/correctness` on a real Slurm cluster of four nodes, {date}:

    make correctness

{versions},
{slurm}.

{matrix}
One small network learns handwritten digits in 12 steps of 64 images, by gradient descent with
momentum. Each of N ranks begins with different weights, and gets every N-th image of a step.

- *Between ranks* is the largest difference between their weights afterwards; 0 means identical.
- *From one process* is the largest difference from the weights of a single process that takes all
  64 images of each step. The bound is {exact}: a float32 has 24 significant bits, so a sum in
  another order is off by 6e-8 of its largest term, and momentum counts each of the 12 steps up
  to ten times. Unless ranks exchange gradients, the difference is above {wrong}. For `single`, it
  is the difference between this Keras and TensorFlow alone.
- *Clipping* uses `global_clipnorm`, which is wrong unless ranks exchange gradients first.
- Workers of `ps` do not wait for each other. For them, the number is the difference between the
  losses on all images after 300 steps without momentum. The bound is half the difference that a
  single process shows after half of the steps, in the same run of the tests.
"""

_REFUSED = """
`fit` of Keras 3 fails under `ParameterServerStrategy` and `MultiWorkerMirroredStrategy`, and
Horovod's own Keras module does not average gradients under Keras 3.
[backends.md](backends.md#keras) and [horovod.md](horovod.md) show what to write instead.
"""

_OPTED = """
A variable in the run's environment (`--env`) allows what is refused otherwise, at your own risk. An
optimizer that miscounts its steps gets Adam's first steps and learning rate schedules wrong.

The last case needs no variable, because Horovod itself works this way: under tf-keras, its callback
broadcasts after the first step. Use the same seed on all ranks, or call
`horovod.tensorflow.broadcast_variables(model.variables, root_rank=0)` before `fit`.
"""


class Correctness(Measurements):
    """Writes the file, if every test has passed."""

    def __init__(self) -> None:
        super().__init__("correctness")
        self._versions: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take in a test's rows, and the versions."""
        super().pytest_runtest_logreport(report)
        self._versions.update(dict(report.user_properties).get("versions", {}))  # type: ignore[call-overload]

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        """Write the file."""
        tests = ("test_right", "test_refused", "test_opted_for")
        if self.failed or not all(self.rows.get(test) for test in tests) or not self._versions:
            terminalreporter.write_line(f"{_FILE} stays as it was: not every test has passed.")
            return
        right, refused, opted = (self.rows[test] for test in tests)
        head = _HEAD.format(
            **where_and_when(),
            versions=_named(self._versions),
            matrix=_matrix(right, refused),
            exact=EXACT,
            wrong=f"{1000 * EXACT:g}",
        )
        parts = [
            head,
            "## Trains correctly\n\n" + _right(right),
            f"## Refused\n{_REFUSED}\n" + _refused(refused),
            f"## Allowed at your own risk\n{_OPTED}\n" + _opted(opted),
        ]
        _FILE.write_text("\n".join(parts))
        terminalreporter.write_line(f"{_FILE}: measured anew.")


def _named(versions: dict[str, str]) -> str:
    libraries = ("TensorFlow", "Keras", "tf-keras", "Horovod", "Python")
    return ", ".join([f"{name} {versions[name]}" for name in libraries] + [versions["MPI"]])


def _matrix(right: list[tuple[Any, ...]], refused: list[tuple[Any, ...]]) -> str:
    trains = {row[:2] for row in right}
    ways = {row[:2] for row in refused if "by Horovod" not in row[3]}

    def verdict(combination: tuple[str, str]) -> str:
        if combination not in trains:
            assert combination in ways, f"{combination} is neither right nor refused"
            return "refused"
        return "right, or refused" if combination in ways else "right"

    rows = [[f"`{one}`", *(verdict((one, other)) for other in LIBRARIES)] for one in BACKENDS]
    return table(" | ".join(["backend", *LIBRARIES]), rows)


def _right(rows: list[tuple[Any, ...]]) -> str:
    cells = [
        [f"`{backend}`", library, f"[{how}]({_SCRIPTS}/{script})", str(ranks), *_figures(*figures)]
        for backend, library, how, script, ranks, *figures in rows
    ]
    return table("backend | with | how | ranks | between ranks | from one process", cells)


def _refused(rows: list[tuple[Any, ...]]) -> str:
    cells = [[f"`{backend}`", *others] for backend, *others in dict.fromkeys(rows)]
    return table("backend | with | what | refused | message", cells)


def _opted(rows: list[tuple[Any, ...]]) -> str:
    cells = [[what, does, str(ranks), *_figures(*figures)] for what, does, ranks, *figures in rows]
    return table("what | result | ranks | between ranks | from one process", cells)


def _figures(between: float | None, alone: float | None) -> list[str]:
    return ["" if one is None else f"{one:.1e}" if one else "0" for one in (between, alone)]
