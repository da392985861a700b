"""Metrics of trainings that know nothing of hpctf: what TensorFlow's event files hold."""

from __future__ import annotations

import json
import os
import struct
import subprocess
from pathlib import Path

import pytest

from hpctf import Experiment, TensorFlow
from hpctf.tracking.metrics import Reading
from hpctf.tracking.tensorboard_events import event_series, points_of
from tests.support.standins import WITHOUT_SCIKIT_LEARN

pytestmark = pytest.mark.tensorflow

WRITE = """
import json, os, sys
import numpy as np
import tensorflow as tf
import tf_keras
from pathlib import Path
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader
from tensorboard.util import tensor_util

def write(keras):
    images = np.linspace(0, 1, 256 * 4, dtype="float32").reshape(256, 4)
    labels = images.sum(1, keepdims=True)
    model = keras.Sequential([keras.Input([4]), keras.layers.Dense(1)])
    model.compile("sgd", "mse")
    board = keras.callbacks.TensorBoard("logs/fit", histogram_freq=1, write_graph=True)
    history = model.fit(
        images, labels, epochs=3, validation_split=0.5, verbose=0, callbacks=[board]
    ).history

    with tf.summary.create_file_writer("outputs/own").as_default():
        for step in range(5):
            tf.summary.scalar("float", step / 3, step)
            tf.summary.scalar("integer", tf.constant(step - 2), step)
            tf.summary.scalar("double", tf.constant(step / 3, tf.float64), step)
            tf.summary.text("words", "none of these is a number", step)
            tf.summary.histogram("histogram", tf.range(10), step)
        tf.summary.scalar("nan", float("nan"), 2**40)

    with tf.compat.v1.Graph().as_default():
        writer = tf.compat.v1.summary.FileWriter("outputs/old")
        value = tf.compat.v1.Summary.Value(tag="old", simple_value=0.5)
        writer.add_summary(tf.compat.v1.Summary(value=[value]), 7)
        writer.close()
    return history

def loaded(path):
    points = []
    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            if value.metadata.plugin_data.plugin_name == "scalars":
                number = float(tensor_util.make_ndarray(value.tensor))
                points.append([event.wall_time, event.step, value.tag, number])
    return points

assert tf.keras.__version__.startswith("3.") and tf_keras.__version__.startswith("2.")
for keras, folder in zip((tf.keras, tf_keras), sys.argv[1:], strict=True):
    os.chdir(folder + "/snapshot")
    history = write(keras)
    points = {str(path): loaded(path) for path in Path(folder).rglob("*.tfevents.*")}
    Path("written.json").write_text(json.dumps({"history": history, "tensorboard": points}))
"""

FIT = """
import numpy as np
import tensorflow as tf
from hpctf import Run

images = np.linspace(0, 1, 64 * 4, dtype="float32").reshape(64, 4)
model = tf.keras.Sequential([tf.keras.Input([4]), tf.keras.layers.Dense(1)])
model.compile("sgd", "mse")
model.fit(
    images,
    images.sum(1, keepdims=True),
    epochs=3,
    batch_size=16,
    callbacks=[tf.keras.callbacks.TensorBoard("logs", update_freq=1)],
)
Run.get_context().log("train/epoch_loss", 12.5)
"""

CONTINUED = """
import sys
import tensorflow as tf

for first, end in ((0, 4), (2, 6)):
    with tf.summary.create_file_writer("outputs").as_default():
        for epoch in range(first, end):
            tf.summary.scalar("loss", first + epoch / 8, epoch)
            tf.summary.flush()
            print(epoch, flush=True)
            sys.stdin.readline()
"""
"""Its second writer begins a file of its own, as that of a process that is started again does."""


@pytest.fixture(scope="module")
def run_folders(training_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Folders of runs whose script has written event files, one under either Keras."""
    folders = {name: tmp_path_factory.mktemp(name) for name in ("keras3", "legacy")}
    for folder in folders.values():
        (folder / "outputs").mkdir()
        (folder / "snapshot").mkdir()
        (folder / "snapshot/outputs").symlink_to("../outputs")
    env = {**os.environ, "PYTHONPATH": str(WITHOUT_SCIKIT_LEARN), "TF_CPP_MIN_LOG_LEVEL": "2"}
    words = [training_python, "-c", WRITE, *map(str, folders.values())]
    done = subprocess.run(words, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folders


@pytest.fixture(params=["keras3", "legacy"])
def run_folder(run_folders: dict[str, Path], request: pytest.FixtureRequest) -> Path:
    return run_folders[request.param]


def test_what_keras_wrote_for_tensorboard_is_among_the_metrics(run_folder: Path) -> None:
    history = json.loads((run_folder / "snapshot/written.json").read_text())["history"]
    found = Reading(run_folder).get_metrics()
    assert found["train/epoch_loss"] == pytest.approx(history["loss"])
    assert found["validation/epoch_loss"] == pytest.approx(history["val_loss"])
    assert Reading(run_folder).series()["train/epoch_loss"].steps == [0, 1, 2]


def test_scalars_of_every_form_are_read(run_folder: Path) -> None:
    found = event_series(run_folder)
    assert list(found["own/float"].values) == pytest.approx([n / 3 for n in range(5)])
    assert found["own/integer"].values == [-2, -1, 0, 1, 2]
    assert list(found["own/double"].values) == pytest.approx([n / 3 for n in range(5)])
    assert str(found["own/nan"].values) == "[nan]"
    assert found["own/nan"].steps == [2**40]
    assert (found["old/old"].values, found["old/old"].steps) == ([0.5], [7])
    assert not [name for name in found if "words" in name or "histogram" in name]
    last = Reading(run_folder).last_metrics()["own/integer"]
    assert (last.value, last.step) == (2, 4)
    assert last.time > 1.7e9


def test_tensorboard_itself_finds_the_same_scalars(run_folder: Path) -> None:
    found = json.loads((run_folder / "snapshot/written.json").read_text())["tensorboard"]
    assert len(found) == 4
    for path, theirs in found.items():
        assert theirs
        ours = [tuple(point) for point in points_of(path)]
        assert list(map(str, ours)) == [str(tuple(point)) for point in theirs]


def test_a_run_that_logs_nothing_has_the_metrics_of_its_event_files(
    experiment: Experiment, training_python: str, tmp_path: Path
) -> None:
    project = tmp_path / "project"
    project.mkdir()
    (project / "train.py").write_text(FIT)
    run = experiment.submit(
        TensorFlow(
            project,
            entry_script="train.py",
            python=training_python,
            environment_variables={
                "PYTHONPATH": str(WITHOUT_SCIKIT_LEARN),
                "CUDA_VISIBLE_DEVICES": "",
            },
        )
    )
    run.wait_for_completion()
    series = run.series()
    assert series["train/batch_loss"].steps == list(range(1, 13))
    assert series["train/batch_loss"].times == sorted(series["train/batch_loss"].times)
    assert run.last_metrics()["train/batch_loss"].step == 12
    assert run.get_metrics("train/epoch_loss") == {"train/epoch_loss": 12.5}, (
        "the script's own word"
    )
    assert len(event_series(run.folder.path)["train/epoch_loss"].values) == 3


def test_steps_are_there_while_they_are_trained_and_once_after_a_restart(
    training_python: str, tmp_path: Path
) -> None:
    seen = []
    env = {**os.environ, "PYTHONPATH": str(WITHOUT_SCIKIT_LEARN), "TF_CPP_MIN_LOG_LEVEL": "2"}
    words = [training_python, "-c", CONTINUED]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(words, env=env, cwd=tmp_path, **pipes) as writer:
        for epoch in (0, 1, 2, 3, 2, 3, 4, 5):
            assert writer.stdout.readline() == f"{epoch}\n"
            seen.append(event_series(tmp_path)["loss"].steps)
            writer.stdin.write("on\n")
            writer.stdin.flush()
    assert writer.returncode == 0
    assert seen == [list(range(epoch + 1)) for epoch in (0, 1, 2, 3, 2, 3, 4, 5)]
    values = event_series(tmp_path)["loss"].values
    assert values == [0, 1 / 8, 2 + 2 / 8, 2 + 3 / 8, 2 + 4 / 8, 2 + 5 / 8]


def test_a_file_that_is_cut_short_anywhere_tells_what_is_whole(
    run_folder: Path, tmp_path: Path
) -> None:
    (source,) = (run_folder / "outputs/own").iterdir()
    whole = points_of(str(source))
    data = source.read_bytes()
    part = tmp_path / "events.out.tfevents.1.part"
    for size in range(0, len(data), 37):
        part.write_bytes(data[:size])
        found = points_of(str(part))
        assert list(map(str, found)) == list(map(str, whole[: len(found)]))
    part.write_bytes(data[:200] + bytes(200) + data[400:])
    points_of(str(part))  # damaged: whatever it tells, it does not fail


def test_one_folder_gives_plain_names_and_a_restart_takes_over(
    run_folder: Path, tmp_path: Path
) -> None:
    (source,) = (run_folder / "snapshot/logs/fit/train").glob("*.v2")
    logs = tmp_path / "snapshot/logs/train"
    logs.mkdir(parents=True)
    (logs / "events.out.tfevents.1700000000.n1").write_bytes(source.read_bytes())
    (logs / "events.out.tfevents.1700000900.n1").write_bytes(source.read_bytes())
    found = event_series(tmp_path)
    assert found["train/epoch_loss"].steps == [0, 1, 2]
    assert len(found["train/epoch_loss"].values) == 3


def test_no_file_no_metrics(tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    (tmp_path / "outputs/events.out.tfevents.12.empty").write_bytes(b"")
    (tmp_path / "outputs/events.out.tfevents.13.junk").write_bytes(struct.pack("<Q", 5) + b"junk")
    assert event_series(tmp_path) == {}
