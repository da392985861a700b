"""Training the examples on the cluster."""

from __future__ import annotations

import json

import pytest

from hpctf import Run
from tests.conftest import Person
from tests.support.waiting import wait_until

ENOUGH = 0.9
"""Accuracy on the held-out digits that every backend must reach, of which guessing reaches 0.1.

One process reaches 0.97. Of 360 images that varies by 0.027 (three standard deviations) from one
equally good model to the next, and asynchronous steps, computed on weights that are some steps old
if a machine is busy, may cost as much again. Exactly the same weights are tests/correctness's."""

PS = ["--backend", "ps", "--workers", "2", "--ps", "1"]


def train(trainer: Person, script: str, *words: str) -> dict[str, float]:
    """Submit an example, wait for it, and return the metrics that it wrote; those that it logged
    to its run agree with them."""
    python = trainer.env["HPCTF_EXAMPLE_PYTHON"]
    options = ["--python", python, *words, "--wait"]
    run = trainer.hpctf("submit", *options, f"examples/{script}").stdout.strip()
    status = trainer.status(run)
    assert status["state"] == "Completed"
    results = json.loads(trainer.hpctf("result", run, "--json").stdout)["results"]
    assert [(one["role"], one["index"]) for one in results] == [
        (role["role"], role["index"]) for role in status["roles"]
    ]
    wait_until(lambda: trainer.jobs() == [])
    metrics: dict[str, float] = json.loads(trainer.output("metrics.json", run))
    assert metrics["accuracy"] >= ENOUGH
    if "epochs" in metrics:
        logged = Run(status["run_folder"]).series()
        assert logged["held_out_accuracy"].values == [pytest.approx(metrics["accuracy"], abs=1e-4)]
        assert len(logged["loss"].values) == metrics["epochs"]
    return metrics
