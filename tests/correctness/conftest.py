"""What the tests of correctness share: the trainings, each run once, and their table.

``pytest tests/correctness --correctness`` writes what was measured to docs/correctness.md.
"""

from __future__ import annotations

import json
import math
import shutil
from array import array
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest

from tests.cluster.fixture import TEST_USER, Cluster
from tests.conftest import Person, make_person
from tests.correctness import report
from tests.correctness.cells import ALONE_LEGACY, MPI, Job
from tests.support.standins import WITHOUT_SCIKIT_LEARN

SCRIPTS = Path(__file__).resolve().parent / "scripts"

QUIET = ("--env", "TF_CPP_MIN_LOG_LEVEL=2")

Weights = array  # of floats


class Run:
    """A run that is over."""

    def __init__(self, folder: Path, state: str) -> None:
        self.folder = folder
        self.state = state

    @property
    def log(self) -> str:
        """What all ranks have printed."""
        return "".join(path.read_text() for path in sorted(self.folder.glob("logs/*.log")))

    def weights(self, name: str) -> list[Weights]:
        """Return the weights that each rank has in the end."""
        paths = sorted(self.folder.glob(f"outputs/{name}-[0-9].f32"))
        found = [array("f", path.read_bytes()) for path in paths]
        assert found, f"{self.folder}: nobody wrote the weights {name!r}"
        assert all(math.isfinite(weight) for rank in found for weight in rank)
        return found

    def said(self, name: str) -> list[dict[str, Any]]:
        """Return what each rank had to say of something."""
        paths = sorted(self.folder.glob(f"outputs/{name}-[0-9].json"))
        return [json.loads(path.read_text()) for path in paths]

    @cached_property
    def versions(self) -> dict[str, str]:
        """What the ranks were compared by, as their first has written it down."""
        found: dict[str, str] = {}
        for path in self.folder.glob("state/*-0.json"):
            content = json.loads(path.read_text())
            if path.stem in ("software-0", "mpi-0"):
                found |= content["versions"]
        return found


class Trainings:
    """Submits jobs, each once, and waits for their end."""

    def __init__(self, person: Person, python: str) -> None:
        self.person = person
        self._python = python
        self._done: dict[Job, Run] = {}

    @property
    def loss_bound(self) -> float:
        """How far a loss with parameter servers may be from that of one process: half of what that
        process lacks if it takes half of the steps."""
        [loss] = self.of(ALONE_LEGACY).said("loss")
        return float(loss["half"] - loss["tape"]) / 2

    def of(self, job: Job) -> Run:
        """Return the run of a job that must have completed."""
        if job not in self._done:
            self._done[job] = self.ended(job)
        run = self._done[job]
        assert run.state == "Completed", run.log[-8000:]
        return run

    def ended(self, job: Job, *arguments: str) -> Run:
        """Submit a job, and return its run, however it ended."""
        done = self.submit(job, *arguments)
        assert done.stdout, done.stderr
        return self.run(done.stdout.strip())

    def run(self, name: str) -> Run:
        """Return a run that is over."""
        status = self.person.status(name)
        return Run(Path(status["run_folder"]), status["state"])

    def submit(self, job: Job, *arguments: str) -> Any:
        """Submit a job and wait for its end, or for its refusal."""
        words = ["--python", self._python, *QUIET, *job.words, "--wait", f"scripts/{job.script}"]
        return self.person.hpctf("submit", *words, "--", *arguments, check=False)


@pytest.fixture(scope="session")
def trainings(cluster: Cluster, installed: Path, training_python: str) -> Iterator[Trainings]:
    """The trainings of this session, all of one person's."""
    someone = make_person(cluster, installed, "correct", TEST_USER)
    shutil.copytree(SCRIPTS, someone.home / "scripts", ignore=shutil.ignore_patterns("__*"))
    shutil.copy(WITHOUT_SCIKIT_LEARN / "sklearn.py", someone.home / "scripts")
    someone.env["HPCTF_EXAMPLE_PYTHON"] = training_python
    yield Trainings(someone, training_python)
    someone.leave()


def apart(left: Weights, right: Weights) -> float:
    """Return the largest difference between two trainings' weights."""
    return max(abs(one - other) for one, other in zip(left, right, strict=True))


def between(ranks: Sequence[Weights]) -> float:
    """Return the largest difference between the weights of a rank and the first one's."""
    return max(apart(ranks[0], rank) for rank in ranks)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--correctness``."""
    parser.addoption(
        "--correctness", action="store_true", help="write docs/correctness.md from this run"
    )


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave 4 ranks to `make correctness`, but where Horovod averages: strategies know no number of
    ranks that Keras or a script must divide by."""
    if config.getoption("--correctness"):
        return
    left_out = [item for item in items if _is_large(item)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if not _is_large(item)]


def _is_large(item: pytest.Item) -> bool:
    if not isinstance(item, pytest.Function) or Path(item.path).parent != SCRIPTS.parent:
        return False
    given = item.callspec.params if hasattr(item, "callspec") else {}
    cell = given.get("cell")
    return given.get("ranks") == 4 and (cell is None or cell.jobs is not MPI)


def pytest_configure(config: pytest.Config) -> None:
    """Register what writes the table."""
    if config.getoption("--correctness"):
        config.pluginmanager.register(report.Correctness())
