"""A first project trains as it is, with each backend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpctf import Run
from hpctf.estimator.distribution import BACKENDS
from hpctf.source.starter import files_of
from tests.support.projects import hpctf

pytestmark = pytest.mark.slow


def test_a_project_is_made_where_it_is_wanted_and_never_over_another(tmp_path: Path) -> None:
    done = hpctf("init", "new/digits", cwd=tmp_path)

    names = ["new/digits/train.py", "new/digits/job.yaml", "new/digits/.amlignore"]
    assert done.stdout.splitlines() == names
    assert "Train it: hpctf submit new/digits/job.yaml --wait" in done.stderr
    assert "experiment: digits" in (tmp_path / "new/digits/job.yaml").read_text()

    (tmp_path / "new/digits/train.py").unlink()
    refused = hpctf("init", "new/digits", cwd=tmp_path)
    assert refused.returncode == 2
    assert "job.yaml' already exists: hpctf init does not replace files." in refused.stderr
    assert not (tmp_path / "new/digits/train.py").exists()


@pytest.mark.parametrize("backend", BACKENDS)
def test_its_first_submission_is_planned(tmp_path: Path, backend: str) -> None:
    made = json.loads(hpctf("init", "proj", "-b", backend, "--json", cwd=tmp_path).stdout)
    assert made["files"][0] == "proj/train.py"

    words = ["--site", "slurm", "--framework-version", "2.21", "--dry-run", "--json"]
    done = hpctf("submit", "proj/job.yaml", *words, cwd=tmp_path)

    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["plan"]["backend"] == backend


@pytest.mark.tensorflow
@pytest.mark.parametrize("backend", [one for one in BACKENDS if one != "single"])
def test_its_first_submission_trains(tmp_path: Path, backend: str, training_python: str) -> None:
    for name, text in files_of(backend, "first").items():
        (tmp_path / name).write_text(text)
    env = {"HPCTF_RUNS_ROOT": str(tmp_path / "runs"), "CUDA_VISIBLE_DEVICES": "-1"}

    words = ["submit", "job.yaml", "--site", "local", "--wait", "--python", training_python]
    done = hpctf(*words, cwd=tmp_path, env=env)

    assert done.returncode == 0, done.stderr
    run = Run(tmp_path / "runs/first" / done.stdout.strip())
    losses = run.get_metrics("loss")["loss"]
    assert losses[-1] < losses[0]
    assert "outputs/model.keras" in run.get_file_names()
    assert "train.py" not in json.dumps(run.get_file_names())
