"""What the tests of faults share: a cluster of their own, a clock, and the table of reliability.

A test of a fault is marked with what is injected and what hpctf does about it, and tells when the
fault was injected and when the right state was there::

    @pytest.mark.fault("slurmctld is away", "waits, says so, and goes on")
    def test_...(person, faults, clock):
        with faults.stopped("slurmctld"):
            clock.injected()
            ...
        clock.right()

``pytest tests/faults --reliability`` writes what was measured to docs/reliability.md.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from hpctf.node.process import KILL_AFTER_S
from hpctf.node.rank import HEARTBEAT_S
from tests.cluster.fixture import Cluster
from tests.faults import report
from tests.faults.inject import Faults
from tests.support.measured import note
from tests.support.projects import project
from tests.support.waiting import wait_until


@pytest.fixture
def faults(cluster: Cluster) -> Iterator[Faults]:
    """The cluster for this test alone (tests/conftest.py), whole again afterwards."""
    injected = Faults(cluster)
    try:
        yield injected
    finally:
        injected.repair()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A source folder with ``train.py`` and the package that it imports."""
    folder = project(tmp_path / "proj", "pkg/__init__.py", text="")
    return project(folder, text="import pkg\n")


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fail the suite if a training's process outlives it, on whichever node."""
    yield
    # A rank on a node that was cut off sees at its next heartbeat that it has to end.
    within_s = HEARTBEAT_S + KILL_AFTER_S + 30
    ours = (f"-{os.getpid()}-", str(tmp_path_factory.getbasetemp()))
    wait_until(lambda: not any(part in one for one in trainings() for part in ours), within_s)


def trainings() -> list[str]:
    """Return the processes that belong to anybody's run, as ``pid HPCTF_RUN_FOLDER=...``."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            variables = path.read_bytes().split(b"\0")
        except OSError:
            continue  # it has ended, or is another user's
        found += [
            f"{path.parent.name} {variable.decode()}"
            for variable in variables
            if variable.startswith(b"HPCTF_RUN_FOLDER=")
        ]
    return found


class Clock:
    """Measures the seconds from a fault to the right state."""

    def __init__(self) -> None:
        self._began: float | None = None
        self.seconds: float | None = None

    def injected(self) -> None:
        """Say that the fault is there now."""
        self._began = time.monotonic()

    def right(self) -> None:
        """Say that hpctf has told the right state now."""
        assert self._began is not None, "the test never said when the fault was injected"
        self.seconds = time.monotonic() - self._began


@pytest.fixture
def clock(request: pytest.FixtureRequest) -> Iterator[Clock]:
    """A clock whose time goes into the table of reliability."""
    marker = request.node.get_closest_marker("fault")
    assert marker is not None, "say what the fault is: @pytest.mark.fault(what, does)"
    measured = Clock()
    yield measured
    if measured.seconds is not None:
        what, does = marker.args
        note(request.node, what, does, measured.seconds)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add ``--reliability``."""
    parser.addoption(
        "--reliability", action="store_true", help="write docs/reliability.md from this run"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Register what writes the table."""
    if config.getoption("--reliability"):
        config.pluginmanager.register(report.Reliability("faults"))
