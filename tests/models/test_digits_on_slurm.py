"""The digits model from its training to a called service, by the commands of docs/models.md."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import ROOT, Person
from tests.support.built import CACHE, own_environment

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow]

DATA = """
import numpy as np
from sklearn.datasets import load_digits
images, labels = load_digits(return_X_y=True)
images = (images / 16).astype(np.float32)
np.savez("digits.npz", images=np.resize(images, (10_000, 64)), labels=labels)
"""


def commands_of_the_docs() -> list[list[str]]:
    """Return the words of the commands that lead from a run to a called service."""
    text = (ROOT / "docs/models.md").read_text().split("## Deploy")[1].split("```")[1]
    return [line.split("#")[0].split()[1:] for line in text.strip().splitlines()]


def test_from_a_run_to_a_called_service(trainer: Person) -> None:
    for name in ("export", "scoring", "serving"):
        own_environment(name)
    site = {
        "name": "here",
        "extends": "slurm",
        "environments": {"store": str(CACHE / "environments")},
    }
    trainer.env["HPCTF_SITE"] = str(trainer.write("site.yaml", json.dumps(site)))
    python = trainer.env["HPCTF_EXAMPLE_PYTHON"]
    trainer.hpctf("submit", "--python", python, "--wait", "examples/digits/single.py")
    trainer.cluster.run(python, "-c", DATA, user=trainer.user, cwd=trainer.home)
    with np.load(trainer.home / "digits.npz") as digits:
        images, labels = digits["images"], digits["labels"]
    np.save(trainer.home / "rows.npy", images)

    register, export, deploy, call, stop = commands_of_the_docs()
    assert trainer.hpctf(*register).stdout == "digits:1\n"
    assert trainer.hpctf(*export).stdout == "digits-onnx:1\n"
    made = json.loads(trainer.hpctf("models", "show", "digits-onnx", "--json").stdout)
    assert made["properties"]["exported_from"] == "digits:1"
    assert float(made["properties"]["largest_difference"]) <= 1e-5

    trainer.hpctf("score", "digits-onnx", "rows.npy", "--out", "scores", "--nodes", "3")
    scores = np.load(Path(trainer.home, "scores/predictions.npy"))
    assert scores.shape == (10_000, 10)
    assert np.mean(scores[: len(labels)].argmax(axis=1) == labels) >= 0.9

    assert "Service digits is ready" in trainer.hpctf(*deploy).stderr
    rows = images[:5].tolist()
    asked = json.dumps({"data": rows})
    answer = json.loads(trainer.hpctf(*call[: call.index("--data")], "--data", asked).stdout)
    assert np.abs(np.array(answer["result"]) - scores[:5]).max() <= 1e-5
    trainer.hpctf(*stop)
