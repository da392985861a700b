"""A rank on a node that Slurm has lost, of a job that has been started again elsewhere."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.node.test_wrapper_pythons import ready, start

pytestmark = pytest.mark.slow

STARTED_AGAIN = """
import os, signal, sys

with open(os.environ["HPCTF_RUN_FOLDER"] + "/state/job.jsonl", "a") as job:
    job.write('{"event": "started", "attempt": 1}\\n')
"""


@pytest.mark.parametrize(
    "end", ["", "sys.exit(3)", "os.kill(os.getpid(), 9)", "os.kill(os.getppid(), signal.SIGTERM)"]
)
def test_however_it_ends_nothing_of_that_is_kept(tmp_path: Path, end: str) -> None:
    folder = ready(tmp_path, STARTED_AGAIN + end, sys.executable)
    done = start(sys.executable, folder.path)
    assert "the job has been started again without this node" in done.stderr
    assert "ended" not in (folder.state / "worker-0.jsonl").read_text()
    assert not (folder.state / "failed.jsonl").read_text()
    assert not list(folder.submitit.glob("*_result.pkl"))
