"""A model of Keras is scored in the environment of its run, with the layers of the run's code."""

from __future__ import annotations

import json
import subprocess
import tarfile
from pathlib import Path

import numpy as np
import pytest

import hpctf
from hpctf import Model
from tests.models.export.conftest import HERE as KINDS
from tests.support.built import SITE

pytestmark = pytest.mark.tensorflow

ANSWERS = """
import sys
import keras, numpy as np, own_layers
model, rows, answers = sys.argv[1:]
found = keras.saving.load_model(model, custom_objects={"Scaled": own_layers.Scaled})
np.save(answers, found.predict(np.loadtxt(rows, delimiter=",", skiprows=1), verbose=0))
"""
FILES = ("answers.py", "custom.keras", "in.csv", "answers.npy")


def test_rows_are_scored_with_layers_of_the_trainings_own(
    training_python: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HPCTF_RUNS_ROOT", str(tmp_path / "runs"))
    monkeypatch.setenv("HPCTF_SITE", str(SITE))
    rows = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    lines = ["a,b,c,d", *(",".join(map(str, row)) for row in rows.tolist())]
    (tmp_path / "in.csv").write_text("\n".join(lines))
    (tmp_path / "answers.py").write_text(ANSWERS)
    words = [training_python, "-s", str(KINDS / "make_models.py"), str(tmp_path), "custom"]
    words += ["--", *(str(tmp_path / name) for name in FILES)]
    subprocess.run(words, check=True, capture_output=True)
    model = Model.register(tmp_path / "custom.keras", "custom")
    with_record_of_run(model, training_python)

    run = hpctf.score("custom", tmp_path / "in.csv", tmp_path / "out", rows_per_part=20)
    run.wait_for_completion()
    scores = np.load(tmp_path / "out/predictions.npy")
    assert scores.shape == (50, 3)
    assert np.abs(scores - np.load(tmp_path / "answers.npy")).max() < 1e-5


def with_record_of_run(model: Model, python: str) -> None:
    """Give a model what is on record of the run that trained it: its Python, and its code."""
    folder = model.folder.run
    folder.mkdir()
    plan = {
        "entry": {"python": python, "container": None, "command": [python, "train.py"]},
        "launch": {"modules": []},
    }
    (folder / "plan.json").write_text(json.dumps(plan))
    with tarfile.open(folder / "code.tar.gz", "w:gz") as tar:
        tar.add(KINDS / "own_layers.py", "own_layers.py")
