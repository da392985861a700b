"""A conda environment with TensorFlow from pip inside trains."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.environment.conda_channels import SHORT, base_channel
from tests.support.built import CACHE

TRAIN = """
import json, os, subprocess, sys
import greeter, numpy, tensorflow as tf
from hpctf import Run

model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
model.compile("sgd", "mse")
x = numpy.ones((32, 2), "float32")
losses = model.fit(x, x.sum(1), epochs=3, verbose=0).history["loss"]
names = ("RELOCATED", "PACKED", "CHOSEN", "FROM_FILE", "CONDA_PREFIX")
said = {name: os.environ.get(name) for name in names}
said["where"] = subprocess.check_output(["where"], text=True).strip()
said["learned"] = losses[-1] < losses[0]
with open(os.path.join("outputs", "said.json"), "w") as to:
    json.dump({**said, "prefix": sys.prefix, "greeter": greeter.__version__}, to)
"""


@pytest.mark.tensorflow
def test_a_conda_environment_with_tensorflow_from_pip_trains(tmp_path: Path) -> None:
    """It is kept with the tests' other environments: TensorFlow is large."""
    content = {
        "name": "conda",
        "scheduler": "local",
        "umask": "0022",
        "environments": {
            "store": str(CACHE / "environments"),
            "channels": [str(base_channel())],
        },
    }
    site = tmp_path / "site.yaml"
    site.write_text(json.dumps(content))
    (tmp_path / "train.py").write_text(TRAIN)
    (tmp_path / "environment.yml").write_text(
        f"dependencies:\n- python={SHORT}\n- greeter\n- relocated\n"
        "- pip:\n  - tensorflow-cpu==2.21.*\n"
        "variables: {CHOSEN: file, FROM_FILE: '1'}\n"
    )
    words = ["submit", "--site", str(site), "--conda-file", "environment.yml", "--wait", "train.py"]
    done = subprocess.run(
        [sys.executable, "-c", "from hpctf.cli import main; main()", *words],
        env={**os.environ, "PYTHONPATH": str(ROOT), "HPCTF_RUNS_ROOT": str(tmp_path / "runs")},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    (file,) = (tmp_path / "runs").rglob("said.json")
    said = json.loads(file.read_text())
    prefix = said["CONDA_PREFIX"]
    real = os.path.realpath(prefix)
    assert said["prefix"] == prefix and said["learned"] and said["greeter"] == "1.0"
    assert said["where"] == said["RELOCATED"] == f"{real}/share"
    assert (said["PACKED"], said["CHOSEN"], said["FROM_FILE"]) == ("yes", "file", "1")
