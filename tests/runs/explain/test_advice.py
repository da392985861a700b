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
from hpctf.runs.explain import log_patterns, removed_names
from tests.support.built import build_environment

HERE = Path(__file__).parent

MODEL = """\
import tensorflow as tf
model = tf.keras.Sequential([tf.keras.layers.Dense(1)])
x, y = tf.ones((4, 2)), tf.ones((4, 1))
"""
FITTED = MODEL + "model.compile('sgd', 'mse')\nmodel.fit(x, y, callbacks=[{}])\n"
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
    "period": FITTED.format("tf.keras.callbacks.ModelCheckpoint('all.keras', period=2)"),
    "save": MODEL + "model(x)\nmodel.save('model')\n",
    "save_weights": MODEL + "model(x)\nmodel.save_weights('weights.h5')\n",
    "checkpoint": FITTED.format("tf.keras.callbacks.ModelCheckpoint('checkpoint-{epoch}')"),
    "checkpoint of weights": FITTED.format(
        "tf.keras.callbacks.ModelCheckpoint('{epoch}.h5', save_weights_only=True)"
    ),
    "load": MODEL
    + """\
import tf_keras
model = tf_keras.Sequential([tf_keras.layers.Dense(1)])
model(x)
model.save("of-keras-2")
tf.keras.models.load_model("of-keras-2")
""",
    "fit_generator": MODEL
    + "model.compile('sgd', 'mse')\nmodel.fit_generator(((x, y) for _ in 'a'))\n",
    "optimizer.lr": MODEL + "model.compile('sgd', 'mse')\nassert model.optimizer.lr > 0\n",
    "optimizer.variables": MODEL + "model.compile('sgd', 'mse')\nmodel.optimizer.variables()\n",
    "batch_input_shape": MODEL + "tf.keras.layers.LSTM(2, batch_input_shape=(1, 2, 3))\n",
    "KerasTensor": MODEL + "tf.reduce_sum(tf.keras.Input((2,)), axis=1)\n",
    "optimizers.legacy": MODEL + "tf.keras.optimizers.legacy.SGD(0.1)\n",
    "optimizers.experimental": MODEL + "tf.keras.optimizers.experimental.SGD(0.1)\n",
    "layers.experimental": MODEL + "tf.keras.layers.experimental.preprocessing.Rescaling(1.0)\n",
    "session": MODEL + "tf.compat.v1.keras.backend.set_session(None)\n",
    "from layers.experimental": "from tensorflow.keras.layers.experimental import preprocessing\n",
    "input_shape": MODEL + "model(x)\nassert model.layers[0].input_shape == (4, 2)\n",
    "learning_phase": MODEL + "tf.keras.backend.learning_phase()\n",
    "experimental": MODEL + "tf.keras.experimental.CosineDecay(0.1, 10)\n",
    "from experimental": "from tensorflow.keras.experimental import CosineDecay\n",
    "LocallyConnected1D": MODEL + "tf.keras.layers.LocallyConnected1D(1, 1)\n",
    "from layers": "from tensorflow.keras.layers import LocallyConnected2D\n",
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

KERAS_1 = {
    "np_utils": (
        "from tensorflow.keras.utils import np_utils\nnp_utils.to_categorical([1])\n",
        (
            "from tensorflow.keras.utils import np_utils",
            "from tensorflow.keras import utils as np_utils",
        ),
    ),
    "np_utils of keras": (
        "import keras\nkeras.utils.np_utils.to_categorical([1])\n",
        ("keras.utils.np_utils", "keras.utils"),
    ),
    **{
        f"keras.layers.{module}": (
            f"from keras.layers.{module} import {name}\n",
            (f"keras.layers.{module}", "keras.layers"),
        )
        for module, name in {
            "advanced_activations": "LeakyReLU",
            "convolutional": "Conv2D",
            "core": "Dense",
            "embeddings": "Embedding",
            "merge": "concatenate",
            "normalization": "BatchNormalization",
            "pooling": "MaxPooling2D",
            "recurrent": "LSTM",
            "wrappers": "TimeDistributed",
        }.items()
    },
    "engine": (
        "from keras.engine.topology import Layer\n",
        ("keras.engine.topology", "keras.layers"),
    ),
    "CuDNNLSTM": ("from keras.layers import CuDNNLSTM\n", ("CuDNNLSTM", "LSTM")),
    "CuDNNGRU": ("import keras\nkeras.layers.CuDNNGRU(2)\n", ("CuDNNGRU", "GRU")),
    "backend": (
        "from keras import backend as K\nK.mean(K.variable([1.0]))\n",
        ("from keras", "from tensorflow.keras"),
    ),
    "text": (
        "from keras.preprocessing.text import Tokenizer\nTokenizer(3)\n",
        ("keras.preprocessing", "tensorflow.keras.preprocessing"),
    ),
    "image": (
        "from keras.preprocessing.image import ImageDataGenerator\nImageDataGenerator()\n",
        ("keras.preprocessing", "tensorflow.keras.preprocessing"),
    ),
    "wrappers": (
        "from keras.wrappers.scikit_learn import KerasClassifier\n",
        (
            "keras.wrappers.scikit_learn import KerasClassifier",
            "keras.wrappers import SKLearnClassifier",
        ),
    ),
    "mixed_precision": (
        "from tensorflow.keras.mixed_precision import experimental as mixed\n"
        "mixed.set_policy(mixed.Policy('float32'))\n",
        (
            "from tensorflow.keras.mixed_precision import experimental as mixed\nmixed.set_policy",
            "from tensorflow.keras import mixed_precision as mixed\nmixed.set_global_policy",
        ),
    ),
    "predict_classes": (
        MODEL + "model.predict_classes(x)\n",
        ("predict_classes(x)", "predict(x).argmax(axis=-1)"),
    ),
    "predict_proba": (MODEL + "model.predict_proba(x)\n", ("predict_proba", "predict")),
    "texts": (
        "from keras.preprocessing import text\ntext.Tokenizer(3)\n",
        ("keras.preprocessing", "tensorflow.keras.preprocessing"),
    ),
    "vis_utils": (
        "from keras.utils.vis_utils import plot_model\n",
        ("keras.utils.vis_utils", "keras.utils"),
    ),
    "callbacks": (
        "from keras.callbacks.callbacks import Callback\n",
        ("keras.callbacks.callbacks", "keras.callbacks"),
    ),
    "objectives": ("from keras.objectives import get\n", ("keras.objectives", "keras.losses")),
    "tensorflow_backend": (
        "from keras.backend.tensorflow_backend import clear_session\n",
        ("keras.backend.tensorflow_backend", "tensorflow.keras.backend"),
    ),
    "adam_v2": (
        "from keras.optimizers import adam_v2\nadam_v2.Adam(0.1)\n",
        ("adam_v2\nadam_v2.", "Adam\n"),
    ),
    "multi_gpu_model": (
        MODEL + "from tensorflow.keras.utils import multi_gpu_model\nmulti_gpu_model(model, 2)\n",
        (
            "from tensorflow.keras.utils import multi_gpu_model\nmulti_gpu_model(model, 2)\n",
            "with tf.distribute.MirroredStrategy().scope():\n"
            "    model = tf.keras.Sequential([tf.keras.layers.Dense(1)])\n"
            "    model.compile('sgd', 'mse')\nmodel.fit(x, y)\n",
        ),
    ),
    "python.keras": (
        "from tensorflow.python.keras.optimizers import Adam\nAdam(0.1)\n",
        ("tensorflow.python.keras", "tensorflow.keras"),
    ),
    "reset_states": (
        "import tensorflow as tf\ntf.keras.metrics.Mean().reset_states()\n",
        ("reset_states", "reset_state"),
    ),
    "_set_inputs": (MODEL + "model._set_inputs(x)\n", ("model._set_inputs(x)", "model(x)")),
    "acc": (
        MODEL + "model.compile('sgd', 'mse', metrics=['accuracy'])\n"
        "model.fit(x, y).history['acc']\n",
        ("['acc']", "['accuracy']"),
    ),
}
"""Scripts of still older Keras, and the change that is advised for them."""

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
    "iterator": "tf.data.Dataset.from_tensors(1).make_one_shot_iterator().get_next()\n",
    "shapes": "tf.data.Dataset.from_tensors(1).output_shapes\n",
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
    "period": (", period=2", ""),
    "save": ("'model'", "'model.keras'"),
    "save_weights": ("'weights", "'w.weights"),
    "checkpoint": ("{epoch}'", "{epoch}.keras'"),
    "checkpoint of weights": ("{epoch}", "{epoch}.weights"),
    "fit_generator": ("fit_generator", "fit"),
    "optimizer.lr": (r"\.lr\b", ".learning_rate"),
    "optimizer.variables": (r"variables\(\)", "variables"),
    "batch_input_shape": (", batch_input_shape=.*", ")"),
}
"""What else is advised for scripts of Keras 2: what to replace, by what."""

ESTIMATORS = {
    "estimator": "import tensorflow as tf\ntf.estimator.RunConfig(model_dir='model')\n",
    "from estimator": "from tensorflow import estimator\nestimator.ModeKeys.TRAIN\n",
    "from within": "from tensorflow.estimator import ModeKeys\n",
}
CONTRIB = {
    "contrib": "import tensorflow as tf\ntf.contrib.crf.crf_log_likelihood\n",
    "from contrib": "from tensorflow.contrib import slim\n",
    "within contrib": "import tensorflow.contrib.slim as slim\n",
    "addons": "import tensorflow_addons as tfa\ntfa.optimizers.AdamW(weight_decay=0.1)\n",
}
WITH_ADDONS = {
    "addons": CONTRIB["addons"],
    "contrib": "import tensorflow_addons as tfa\ntfa.text.crf_log_likelihood\n",
    "from contrib": """\
import tensorflow.compat.v1 as tf
import tf_slim as slim
with tf.Graph().as_default():
    slim.fully_connected(tf.zeros([1, 2]), 3)
""",
}
"""The same with the packages that are advised."""

NEEDS_MORE = ("ref", "load")
"""What takes Horovod and tf-keras besides."""
KERAS_2_ALONE = {name: script for name, script in KERAS_2.items() if name not in NEEDS_MORE}

BROKEN = {
    "board": f"import sys\nsys.modules['tensorboard'] = None\n{BOARD}",  # as if it was not there
    **KERAS_2,
    **{name: script for name, (script, _) in KERAS_1.items()},
    **{name: f"import tensorflow as tf\n{script}" for name, script in TF_1.items()},
    "numpy": NUMPY,
    "examples": EXAMPLES,
    **ESTIMATORS,
    **CONTRIB,
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
    for name, (script, (before, after)) in KERAS_1.items():
        changed[f"{name}, changed"] = script.replace(before, after)
    asked = {"scripts": {**BROKEN, **changed}, "numpy": removed_names.NUMPY}
    return ask(training_python, tmp_path_factory.mktemp("said"), asked)


def advice_on(traceback: str) -> str:
    """Return what `why` advises on a traceback."""
    known = log_patterns.of_lines(traceback.splitlines(), "python")
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
        "Let it end in .keras",
        "Let it end in .weights.h5",
        "Write optimizer.variables for",
    )
    for name in CHANGED:
        assert any(each in advice_on(said["scripts"][name]) for each in words), name
        assert said["scripts"][f"{name}, changed"] == "", name


def test_scripts_of_older_keras_complete_once_changed_as_is_advised(said: dict[str, Any]) -> None:
    for name, (_, (_, after)) in KERAS_1.items():
        words = set(re.findall(r"\w+", after)) - {"from", "import", "as", "keras"}
        advice = advice_on(said["scripts"][name])
        assert any(word in advice for word in words), f"{name}: {advice}"
        assert said["scripts"][f"{name}, changed"] == "", name


def test_what_arrays_no_longer_have_since_numpy_2(training_python: str, tmp_path: Path) -> None:
    calls = {"binary mode of fromstring": "np.fromstring(data)", "itemset": "a.itemset(0, 1)"}
    scripts = {}
    for name, instead in removed_names.ARRAYS.items():
        begin = "import numpy as np\na = np.ones(3)\ndata = a.tobytes()\n"
        scripts[name] = begin + calls.get(name, f"a.{name}()")
        scripts[f"{name}, changed"] = begin + instead
    found = ask(training_python, tmp_path, {"scripts": scripts})["scripts"]
    for name, instead in removed_names.ARRAYS.items():
        assert f"Write {instead} in its place" in advice_on(found[name])
        assert found[f"{name}, changed"] == ""


@pytest.fixture(scope="module")
def with_tensorboard(
    said: dict[str, Any], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """What is wrong with scripts in an environment with TensorBoard, built as is advised: with one
    that writes its events, and those of TensorFlow 1 with the import that is advised."""
    found = re.search(r"pass (--pip .+)\.$", advice_on(said["scripts"]["board"]))
    assert found is not None
    made = build_environment("2.21", *shlex.split(found[1]), backend="single")
    assert made.returncode == 0, made.stderr
    scripts = {"board": BOARD}
    for name in TF_1:
        advice = advice_on(said["scripts"][name])
        found = re.search(r"replace '(.+?)' by '(.+?)'", advice)
        assert found is not None, name
        script = BROKEN[name].replace(found[1], found[2])
        scripts[name] = script.replace("from tensorflow import", "from tensorflow.compat.v1 import")
    folder = tmp_path_factory.mktemp("with_tensorboard")
    wrong: dict[str, str] = ask(made.stdout.strip(), folder, {"scripts": scripts})["scripts"]
    return wrong


def test_scripts_of_tensorflow_1_complete_with_the_import_that_is_advised(
    with_tensorboard: dict[str, str],
) -> None:
    assert {name: with_tensorboard[name] for name in TF_1} == dict.fromkeys(TF_1, "")


def test_what_is_written_in_the_place_of_np_float(
    said: dict[str, Any], training_python: str, tmp_path: Path
) -> None:
    found = re.search(r"Write (\w+) \(or (\S+)\)", advice_on(said["scripts"]["numpy"]))
    assert found is not None
    for instead in found.groups():
        script = tmp_path / "train.py"
        script.write_text(NUMPY.replace("np.float", instead))
        subprocess.run([training_python, script], check=True)


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


@pytest.mark.skipif(sys.version_info >= (3, 12), reason="TensorFlow 2.15 is for Python 3.11")
def test_the_last_tensorflow_with_estimators(said: dict[str, Any], tmp_path: Path) -> None:
    """Also for what Keras 3 took away from the package keras, and for tf.contrib."""
    advice = {name: advice_on(said["scripts"][name]) for name in (*ESTIMATORS, *CONTRIB)}
    words = {re.findall(r"ass (--framework-version .+)\.$", each)[0] for each in advice.values()}
    longest = max(words, key=len)
    assert all(longest.startswith(each) for each in words)
    _, version, *packages = shlex.split(longest)
    made = build_environment(version, *packages, backend="single")
    assert made.returncode == 0, made.stderr
    scripts = {**ESTIMATORS, **WITH_ADDONS, **KERAS_2_ALONE}
    answer = ask(made.stdout.strip(), tmp_path, {"scripts": scripts})
    assert answer == {"scripts": dict.fromkeys(scripts, "")}


def test_tensorboard_installed_as_is_advised(with_tensorboard: dict[str, str]) -> None:
    assert with_tensorboard["board"] == ""


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
