"""A training written for Azure ML, with TensorFlow itself: unchanged, it is a run of hpctf's."""

from __future__ import annotations

import numpy as np
import pytest

from hpctf import Experiment, TensorFlow
from tests.client.keras.test_keras import HERE

pytestmark = pytest.mark.tensorflow


def test_a_keras_training_of_azure_ml_runs_unchanged(
    experiment: Experiment, training_python: str
) -> None:
    run = experiment.submit(
        TensorFlow(
            HERE / "azureml",
            entry_script="train.py",
            script_params={"--batch-size": 32, "--learning-rate": 0.003},
            python=training_python,
        )
    )
    run.wait_for_completion()
    found = run.get_metrics()
    assert len(found["Loss"]) == len(found["Accuracy"]) == 5
    assert found["Final test accuracy"] == pytest.approx(found["Accuracy"][-1])
    assert found["Final test accuracy"] > 0.9
    matrix = np.array(found["Test set"]["matrix"])
    assert (matrix.shape, matrix.sum()) == ((10, 10), 360)
    assert np.trace(matrix) / 360 == pytest.approx(found["Final test accuracy"])
    names = set(run.get_file_names())
    assert {"outputs/model/model.json", "outputs/model/model.weights.h5", "model.json"} <= names
    assert "image" in {series.kind for series in run.series().values()}
