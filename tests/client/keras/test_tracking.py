"""What trainings log: TensorFlow's own values, and what Keras measures, whichever Keras it is."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from hpctf.client.hpctf.run_metrics import Tracked
from hpctf.common.paths import CLIENT
from tests.support.standins import WITHOUT_SCIKIT_LEARN

pytestmark = pytest.mark.tensorflow

FIT = """
import numpy as np
import tensorflow as tf
import hpctf.keras
from hpctf import Run

images = np.linspace(0, 1, 512 * 8, dtype="float32").reshape(512, 8)
labels = (images.sum(1) > 4).astype("int32")
model = tf.keras.Sequential([tf.keras.Input([8]), tf.keras.layers.Dense(2)])
decay = tf.keras.optimizers.schedules.ExponentialDecay(0.1, decay_steps=6, decay_rate=0.5)
model.compile(
    tf.keras.optimizers.SGD(decay),
    loss=tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    metrics=["accuracy"],
)
tracking = hpctf.keras.TrackingCallback(batch_seconds=0, batch_size=64)
whole = dict(batch_size=64, validation_split=0.25, verbose=0)
history = model.fit(images, labels, epochs=2, callbacks=[tracking], **whole).history
more = model.fit(images, labels, initial_epoch=2, epochs=4, callbacks=[tracking], **whole).history
evaluated, _ = model.evaluate(images, labels, verbose=0, callbacks=[tracking])
quiet = hpctf.keras.TrackingCallback(Run.get_context().child_run("quiet"), batch_seconds=None)
model.fit(images, labels, epochs=1, callbacks=[quiet], **whole)
run = Run.get_context()
for value in history["val_loss"] + more["val_loss"]:
    run.log("from_history", value)
run.log("from_evaluate", evaluated)
"""

VALUES = """
run = Run.get_context()
third = tf.constant(1 / 3)
run.log("float32", third, tf.constant(7))
run.log("float64", tf.constant(1 / 3, tf.float64))
run.log("bfloat16", tf.constant(1 / 3, tf.bfloat16))
run.log("int64", tf.constant(2**62))
run.log("variable", tf.Variable(0.5))
run.log("keras", tf.keras.Variable(0.25) if hasattr(tf.keras, "Variable") else 0.25)
run.log("numpy", np.float32(0.1))
run.log("longdouble", np.longdouble(0.5))
run.log("bool", np.bool_(True))
run.log("nan", tf.constant(float("nan")))
run.log("string", tf.constant("adam"))
run.log_list("list", tf.constant([[1.0, 2.0], [3.0, float("inf")]]))

@tf.function
def step(x):
    run.log("inside", x)
    return x

try:
    step(third)
except TypeError as error:
    assert "inside a tf.function there are only symbols" in str(error), error
    run.log("refused", True)
"""


def tracked(python: str, folder: Path, script: str, legacy: str) -> Tracked:
    """Return what a script has tracked that was run as a rank, under Keras 3 or tf-keras."""
    (folder / "metrics").mkdir()
    env = {
        **os.environ,
        "TF_USE_LEGACY_KERAS": legacy,
        "TF_CPP_MIN_LOG_LEVEL": "2",
        "PYTHONPATH": f"{CLIENT}:{WITHOUT_SCIKIT_LEARN}",
        "HPCTF_RUN_ID": "r",
        "HPCTF_RUN_FOLDER": str(folder),
    }
    done = subprocess.run(
        [python, "-c", script], env=env, cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return Tracked(str(folder))


@pytest.fixture(scope="module")
def keras3(training_python: str, tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    """What both scripts have tracked, in one process."""
    return tracked(training_python, tmp_path_factory.mktemp("keras3"), FIT + VALUES, "0")


@pytest.fixture(scope="module")
def legacy(training_python: str, tmp_path_factory: pytest.TempPathFactory) -> Tracked:
    return tracked(training_python, tmp_path_factory.mktemp("legacy"), FIT, "1")


@pytest.mark.parametrize("keras", ["keras3", "legacy"])
def test_keras_logs_epochs_batches_rates_and_speed(
    keras: str, request: pytest.FixtureRequest
) -> None:
    trained: Tracked = request.getfixturevalue(keras)
    found = trained.series()
    assert found["loss"].steps == found["accuracy"].steps == found["val_loss"].steps == [0, 1, 2, 3]
    assert found["val_loss"].values == found["from_history"].values
    assert found["batch/loss"].steps == list(range(4 * 6))
    rates = found["learning_rate"].values
    assert 0.0499 < rates[0] < 0.0562, "Keras 3's of the next step, tf-keras's of the last"
    assert [rate / rates[0] for rate in rates] == pytest.approx([1, 0.5, 0.25, 0.125], rel=1e-5)
    assert all(speed > 0 for speed in found["steps_per_second"].values)
    assert list(found["examples_per_second"].values) == pytest.approx(
        [64 * speed for speed in found["steps_per_second"].values]
    )
    assert found["test_loss"].values == found["from_evaluate"].values
    progress = trained.progress()
    assert progress is not None
    assert (progress["epoch"], progress["epochs"]) == (4, 4)
    (child,) = trained.children()
    assert "batch/loss" not in child.series()
    assert len(child.series()["loss"].values) == 1


def test_tensorflows_values_are_kept_right(keras3: Tracked) -> None:
    found = keras3.metrics()
    assert str(found["nan"]) == "nan"
    assert keras3.series()["float32"].steps == [7]
    assert "inside" not in found
    expected = {
        "float32": 0.3333333432674408,
        "float64": 1 / 3,
        "bfloat16": 0.333984375,
        "int64": 2**62,
        "variable": 0.5,
        "keras": 0.25,
        "numpy": 0.10000000149011612,
        "longdouble": 0.5,
        "bool": True,
        "string": "adam",
        "list": [[1.0, 2.0], [3.0, float("inf")]],
        "refused": True,
    }
    assert {name: found[name] for name in expected} == expected
