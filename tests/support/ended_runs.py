"""Runs that are over, made quickly: one is real, the others are copies of it."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from hpctf import Experiment, Run, TensorFlow
from tests.support.projects import project
from tests.support.waiting import wait_until

SOURCE = """
import os, time
open("outputs/said.txt", "w").write("hello")
open(os.environ["HPCTF_CHECKPOINT_DIR"] + "/step-1", "wb").write(b"w" * 5000)
time.sleep(float(os.environ.get("SECONDS_MORE", "0")))
"""

Copy = Callable[..., Run]


@pytest.fixture
def run(experiment: Experiment, tmp_path: Path) -> Run:
    """A real run that has completed, with outputs and checkpoints."""
    made = submit(experiment, tmp_path)
    made.wait_for_completion()
    return made


@pytest.fixture
def copy(run: Run) -> Copy:
    """Makes further runs that are over: copies of the real one with another id, and final state."""
    made = iter(range(100))

    def copying(state: str = "Completed", days_ago: float = 0, experiment: str = "test") -> Run:
        name = f"{experiment}_{next(made)}_aaaaaa"
        path = run.folder.root / experiment / name
        shutil.copytree(run.folder.path, path, symlinks=True)
        one = Run(path)
        final: dict[str, Any] = json.loads(one.folder.final.read_text())
        ended = time.time() - days_ago * 86400
        one.folder.final.write_text(json.dumps({**final, "state": state, "ended": ended}))
        return one

    return copying


def submit(experiment: Experiment, tmp_path: Path, seconds: float = 0, **asked: Any) -> Run:
    """Submit a training that goes on for some seconds after it has written."""
    estimator = TensorFlow(
        project(tmp_path / "proj", text=SOURCE),
        entry_script="train.py",
        environment_variables={"SECONDS_MORE": str(seconds)},
        **asked,
    )
    return experiment.submit(estimator)


@pytest.fixture
def live(experiment: Experiment, tmp_path: Path, run: Run) -> Any:
    """A real run that is running, and has begun with the other one's checkpoints."""
    going = submit(experiment, tmp_path, 600, resume_from=run)
    wait_until(lambda: "outputs/said.txt" in going.get_file_names())
    yield going
    going.cancel()
    going.wait_for_completion(raise_on_error=False)
