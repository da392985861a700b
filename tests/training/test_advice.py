"""What `hpctf why` advises for scripts of older TensorFlow, Keras and numpy, followed literally."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpctf import Experiment, TensorFlow
from hpctf.runs import removed_names, symptoms

from ..built import build_environment

HERE = Path(__file__).parent

MODEL = """\
import tensorflow as tf
model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
x, y = tf.ones((4, 2)), tf.ones((4, 1))
"""
KERAS_2 = {
    "ref": MODEL
    + """\
import horovod.tensorflow as hvd
hvd.init()
with tf.GradientTape() as tape:
    loss = tf.reduce_mean((model(x) - y) ** 2)
tape = hvd.DistributedGradientTape(tape)
gradients = tape.gradient(loss, model.trainable_variables)
tf.keras.optimizers.SGD(0.1).apply_gradients(zip(gradients, model.trainable_variables))
hvd.broadcast_variables(model.variables, root_rank=0)
""",
    "experimental_run_tf_function": MODEL
    + "model.compile('sgd', 'mse', experimental_run_tf_function=False)\nmodel.fit(x, y)\n",
    "workers": MODEL + "model.compile('sgd', 'mse')\nmodel.fit(x, y, workers=2)\n",
    "lr": MODEL + "model.compile(tf.keras.optimizers.Adam(lr=0.1), 'mse')\nmodel.fit(x, y)\n",
    "tf.layers": """\
import tensorflow.compat.v1 as tf
with tf.Graph().as_default():
    x = tf.placeholder(tf.float32, [None, 2])
    y = tf.layers.dense(x, 1)
    with tf.Session() as session:
        session.run(tf.global_variables_initializer())
        session.run(y, {x: [[1.0, 2.0]]})
""",
}
"""Scripts that complete with Keras 2."""

TF_1 = {
    "ConfigProto": "config = tf.ConfigProto()\n",
    "Session": "with tf.Session() as session:\n    session.run(tf.constant(1))\n",
    "placeholder": "x = tf.placeholder(tf.float32, [None, 1])\n",
    "get_default_graph": "tf.get_default_graph().as_graph_def()\n",
    "optimizer": """\
w = tf.Variable(1.0)
step = tf.train.GradientDescentOptimizer(0.1).minimize(w * w)
with tf.Session() as session:
    session.run(tf.global_variables_initializer())
    session.run(step)
    tf.train.Saver()
""",
    "losses": "tf.losses.mean_squared_error([1.0], [2.0])\n",
    "gradients": "x = tf.constant(1.0)\ntf.gradients(x * x, x)\n",
    "op": "assert tf.constant(1).op.name\n",
    "app": "tf.logging.set_verbosity(tf.logging.INFO)\ntf.flags.DEFINE_integer('batch', 1, '')\n",
    "from": "from tensorflow import ConfigProto, Session\nSession(config=ConfigProto())\n",
}
"""Scripts that complete as what they were written for, TensorFlow 1."""

NUMPY = "import numpy as np\nx = np.zeros(3, dtype=np.float)\nassert x.dtype == np.float\n"
EXAMPLES = (
    "import os, numpy\nfrom tensorflow.examples.tutorials.mnist import input_data\n"
    "data = input_data.read_data_sets('MNIST_data')\n"
)
BOARD = """\
import tensorflow as tf
with tf.summary.create_file_writer("outputs").as_default():
    tf.summary.scalar("loss", 1.0, step=0)
"""
CHANGED = {
    "ref": (r"(gradient\(loss, |broadcast_variables\()(model\.\w+)", r"\1[v.value for v in \2]"),
    "experimental_run_tf_function": (", experimental_run_tf_function=False", ""),
    "workers": (", workers=2", ""),
    "lr": ("lr=0.1", "learning_rate=0.1"),
}
"""What else is advised for scripts of Keras 2: what to replace, by what."""

BROKEN = {
    **KERAS_2,
    **{name: f"import tensorflow as tf\n{script}" for name, script in TF_1.items()},
    "numpy": NUMPY,
    "examples": EXAMPLES,
    "board": BOARD,
}


def ask(python: str, folder: Path, asked: dict[str, Any], **env: str) -> dict[str, Any]:
    """Run advice.py in a training environment."""
    done = subprocess.run(
        [python, str(HERE / "advice.py")],
        input=json.dumps(asked),
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "", **env},
        cwd=folder,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


@pytest.fixture(scope="module")
def said(training_python: str, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What the environment says of the scripts, and of all names that were removed."""
    changed = {f"{name}, changed": re.sub(*pair, KERAS_2[name]) for name, pair in CHANGED.items()}
    asked = {"scripts": {**BROKEN, **changed}, "numpy": removed_names.NUMPY}
    return ask(training_python, tmp_path_factory.mktemp("said"), asked)


def advice_on(traceback: str) -> str:
    """Return what `why` advises on a traceback."""
    known = symptoms.of_lines(traceback.splitlines(), "python")
    assert known is not None, f"nobody knows:\n{traceback}"
    return known.advice


def test_each_name_that_numpy_removed_has_another_that_works(said: dict[str, Any]) -> None:
    assert len(said["numpy"]) > 70
    assert sum(codes > 0 for _, codes, _ in said["numpy"].values()) > 60
    for name, (tracebacks, _, wrong) in said["numpy"].items():
        for traceback in tracebacks:
            assert f"Write {removed_names.NUMPY[name]} in its place" in advice_on(traceback)
        assert wrong == "", f"np.{name}: {wrong}"


def test_each_name_of_tensorflow_1_is_where_the_advice_says(said: dict[str, Any]) -> None:
    assert len(said["tensorflow"]) > 600
    for name, (traceback, wrong) in said["tensorflow"].items():
        assert advice_on(traceback) == removed_names.TF_1, name
        assert not wrong or removed_names.LEGACY_KERAS in advice_on(wrong), f"{name}: {wrong}"


def test_scripts_of_keras_2_complete_with_the_variable(
    said: dict[str, Any], training_python: str, tmp_path: Path
) -> None:
    for name in KERAS_2:
        assert f"pass {removed_names.LEGACY_KERAS}" in advice_on(said["scripts"][name]), name
    variable = dict([removed_names.LEGACY_KERAS.split()[1].split("=")])
    assert ask(training_python, tmp_path, {"scripts": KERAS_2}, **variable) == {
        "scripts": dict.fromkeys(KERAS_2, "")
    }


def test_scripts_of_keras_2_complete_once_changed_as_is_advised(said: dict[str, Any]) -> None:
    words = (
        "[v.value for v in model.variables]",
        "Leave that argument out",
        "learning_rate for lr",
    )
    for name in CHANGED:
        assert any(each in advice_on(said["scripts"][name]) for each in words), name
        assert said["scripts"][f"{name}, changed"] == "", name


def test_scripts_of_tensorflow_1_complete_with_the_import_that_is_advised(
    said: dict[str, Any], training_python: str, tmp_path: Path
) -> None:
    changed = {}
    for name in TF_1:
        advice = advice_on(said["scripts"][name])
        found = re.search(r"replace '(.+?)' by '(.+?)'", advice)
        assert found is not None, name
        script = BROKEN[name].replace(found[1], found[2])
        changed[name] = script.replace("from tensorflow import", "from tensorflow.compat.v1 import")
    assert ask(training_python, tmp_path, {"scripts": changed}) == {
        "scripts": dict.fromkeys(TF_1, "")
    }


def test_what_is_written_in_the_place_of_np_float(said: dict[str, Any], tmp_path: Path) -> None:
    found = re.search(r"Write (\w+) \(or (\S+)\)", advice_on(said["scripts"]["numpy"]))
    assert found is not None
    for instead in found.groups():
        script = tmp_path / "train.py"
        script.write_text(NUMPY.replace("np.float", instead))
        subprocess.run(["python3", script], check=True)


def test_data_in_the_place_of_the_tutorials(
    said: dict[str, Any], experiment: Experiment, training_python: str, tmp_path: Path
) -> None:
    advice = advice_on(said["scripts"]["examples"])
    found = re.search(r"--input (\w+)=FILE, and read (\S+)\s+in their place", advice)
    assert found is not None
    lines = ["import os, numpy", f"data = {found[2]}", "assert data.sum() == 3"]
    (tmp_path / "proj").mkdir()
    (tmp_path / "proj/train.py").write_text("\n".join(lines))
    subprocess.run(
        [training_python, "-c", "import numpy, sys; numpy.save(sys.argv[1], [1, 2])", "data.npy"],
        cwd=tmp_path,
        check=True,
    )
    asked = TensorFlow(
        tmp_path / "proj",
        entry_script="train.py",
        python=training_python,
        inputs={found[1]: str(tmp_path / "data.npy")},
    )
    assert experiment.submit(asked).wait_for_completion().state == "Completed"


def test_tensorboard_installed_as_is_advised(said: dict[str, Any], tmp_path: Path) -> None:
    found = re.search(r"pass (--pip .+)\.$", advice_on(said["scripts"]["board"]))
    assert found is not None
    made = build_environment("2.21", *shlex.split(found[1]), backend="single")
    assert made.returncode == 0, made.stderr
    answer = ask(made.stdout.strip(), tmp_path, {"scripts": {"board": BOARD}})
    assert answer == {"scripts": {"board": ""}}


def test_why_advises_and_a_resubmission_with_that_completes(
    experiment: Experiment, training_python: str, tmp_path: Path
) -> None:
    (tmp_path / "proj").mkdir()
    (tmp_path / "proj/train.py").write_text(KERAS_2["experimental_run_tf_function"])
    asked = TensorFlow(tmp_path / "proj", entry_script="train.py", python=training_python)
    run = experiment.submit(asked)
    assert run.wait_for_completion(raise_on_error=False).state == "Failed"
    (advice,) = run.why().advice
    found = re.search(r"pass (--env \S+?)\.?$", advice)
    assert found is not None
    words = ["resubmit", *shlex.split(found[1]), "--wait", str(run.folder.path)]
    hpctf = [sys.executable, "-c", "from hpctf.cli import main; main()"]
    subprocess.run([*hpctf, *words], check=True)
