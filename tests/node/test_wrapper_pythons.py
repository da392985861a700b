"""The ranks' wrapper under a container's own Python, as Pyxis has it start.

Pyxis cannot be had here: the plan is one of a site with Pyxis, and this test starts the rank in
srun's place, with whatever Pythons this machine has.
"""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest

from hpctf import TensorFlow
from hpctf.common.paths import NODE_START
from hpctf.planning.planner import make_plan
from hpctf.run_folder.layout import RunFolder
from hpctf.site.loading import load_site
from tests.client.test_run_context import SAY, pythons
from tests.support.projects import project


def start(python: str, folder: Path) -> subprocess.CompletedProcess[str]:
    plain = {k: v for k, v in os.environ.items() if not k.startswith(("HPCTF_", "PYTHON"))}
    step = {
        "SLURM_JOB_ID": "77",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_NTASKS": "1",
        "SLURM_STEP_NUM_TASKS": "1",
        "SLURM_STEP_ID": "0",
        "SLURM_STEP_NODELIST": "n1",
        "SLURM_STEP_TASKS_PER_NODE": "1",
    }
    return subprocess.run(
        [python, "-I", "-S", NODE_START, "rank", str(folder)],
        env={**plain, **step},
        cwd="/",
        capture_output=True,
        text=True,
    )


def ready(tmp_path: Path, text: str, python: str) -> RunFolder:
    """Return a run of one rank, as it is when Slurm starts it."""
    source = project(tmp_path / "proj", text=text)
    estimator = TensorFlow(source, entry_script="train.py", python=python)
    path = tmp_path / "e" / "e_1_a"
    plan = make_plan(
        estimator, load_site("slurm"), run_id="e_1_a", experiment="e", run_folder=str(path)
    ).plan
    folder = RunFolder(path)
    folder.make(plan.ranks())
    folder.plan_file.write_text(plan.to_json())
    folder.snapshot.mkdir()
    (folder.snapshot / "train.py").write_text(text)
    return folder


@pytest.mark.parametrize("python", pythons())
def test_a_rank_runs_and_keeps_its_result_with_any_python_from_3_8(
    tmp_path: Path, python: str
) -> None:
    folder = ready(tmp_path, SAY, python)
    done = start(python, folder.path)
    assert done.returncode == 0, done.stderr + (folder.logs / "worker-0.log").read_text()
    assert json.loads((folder.logs / "worker-0.log").read_text())["id"] == "e_1_a"
    with (folder.submitit / "77_0_result.pkl").open("rb") as stream:
        assert pickle.load(stream)[0] == "success"


def test_an_older_python_is_told_so(tmp_path: Path) -> None:
    """No such Python need be here: this one says that it is old."""
    code = (
        "import runpy, sys; sys.version_info = (3, 6, 15); sys.argv = ['start.py', 'rank', 'x']\n"
        f"runpy.run_path({NODE_START!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True)
    assert done.returncode == 1
    assert "needs Python 3.8 or later" in done.stderr
    assert "is 3.6: use another image" in done.stderr
