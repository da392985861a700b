"""What would train wrong with the Keras it gets is found before the queue, by its imports."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from hpctf import TensorFlow, UsageError
from hpctf.environment.libraries import Libraries, libraries_in, libraries_of
from hpctf.environment.spec import EnvironmentSpec
from hpctf.estimator.script_imports import imports_of
from hpctf.planning.missing_modules import ALLOW
from hpctf.planning.planner import make_plan
from tests.estimator.test_script_imports import write
from tests.support.projects import hpctf, planned, project, site_of

pytestmark = pytest.mark.slow

KERAS_3 = {"tensorflow-cpu": "2.21.0", "keras": "3.15.1", "tf_keras": "2.21.0"}
KERAS_2 = {"tensorflow": "2.15.1", "keras": "2.15.0"}


def environment(folder: Path, packages: dict[str, str]) -> str:
    """Return a Python that has packages of these versions, as far as their metadata goes."""
    for name, version in packages.items():
        info = folder / "packages" / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
    python = folder / "python"
    python.write_text(
        f'#!/bin/sh\nPYTHONPATH="{folder}/packages" exec "{sys.executable}" -s "$@"\n'
    )
    python.chmod(0o755)
    return str(python)


@pytest.fixture(scope="module")
def keras_3(tmp_path_factory: pytest.TempPathFactory) -> str:
    return environment(tmp_path_factory.mktemp("keras3"), KERAS_3)


@pytest.fixture(scope="module")
def keras_2(tmp_path_factory: pytest.TempPathFactory) -> str:
    return environment(tmp_path_factory.mktemp("keras2"), KERAS_2)


@pytest.fixture(scope="module")
def without_tf_keras(tmp_path_factory: pytest.TempPathFactory) -> str:
    packages = {name: version for name, version in KERAS_3.items() if name != "tf_keras"}
    return environment(tmp_path_factory.mktemp("bare"), packages)


@cache
def answer_of(python: str, variables: tuple[tuple[str, str], ...]) -> Libraries | None:
    return libraries_of(python, dict(variables))


@pytest.fixture(autouse=True)
def each_python_is_asked_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ask each Python once, with the same variables: what it has stays the same, and two hundred
    plans would start it. What it holds is not looked at: that is metadata alone."""
    monkeypatch.setenv(ALLOW, "1")
    monkeypatch.setattr(
        "hpctf.environment.libraries.libraries_of",
        lambda python, variables: answer_of(python, tuple(sorted(variables.items()))),
    )


def told(folder: Path, backend: str, python: str, **more: Any) -> list[str]:
    """Return what is said of Keras when the folder's train.py is planned."""
    notes = planned(folder, distributed_backend=backend, python=python, **more).notes
    return [note for note in notes if "keras" in note]


def refusal(folder: Path, backend: str, python: str, **more: Any) -> str:
    with pytest.raises(UsageError) as caught:
        told(folder, backend, python, **more)
    return str(caught.value)


@pytest.mark.parametrize("backend", ["ps", "collective"])
@pytest.mark.parametrize(
    "line",
    [
        "import keras",
        "import keras as k",
        "from keras import layers",
        "import keras.utils",
        "def main():\n    import keras",
    ],
)
def test_keras_itself_is_refused_where_keras_3_does_not_train(
    tmp_path: Path, keras_3: str, backend: str, line: str
) -> None:
    folder = write(tmp_path / "proj", train=f"import tensorflow as tf\n{line}\n")
    said = refusal(folder, backend, keras_3)
    legacy = {"environment_variables": {"TF_USE_LEGACY_KERAS": "1"}}
    assert refusal(folder, backend, keras_3, **legacy) == said
    place = "train.py:3" if "def" in line else "train.py:2"
    assert f"{place} imports keras, which is Keras 3.15.1 in {keras_3}" in said
    assert "from tensorflow import keras" in said and "--backend mpi" in said
    own = {"environment_variables": {"TF_USE_LEGACY_KERAS": "0"}}
    assert told(folder, backend, keras_3, **own) == []
    assert told(folder, "mpi", keras_3) == told(folder, "single", keras_3) == []


def test_the_module_that_imports_keras_is_named(tmp_path: Path, keras_3: str) -> None:
    write(
        tmp_path / "proj",
        train="import model.deep",
        model____init__="",
        model__deep="from . import layers",
        model__layers="\n\nfrom keras import layers",
    )
    assert "model/layers.py:3 imports keras" in refusal(tmp_path / "proj", "ps", keras_3)


@pytest.mark.parametrize(
    "text",
    [
        "try:\n    import keras\nexcept ImportError:\n    keras = None",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import keras",
        "from .keras import layers",
        "import kerastuner, tensorflow",
        "import keras\nprint 'Python 2'",
        "import os, keras\nos.environ['TF_USE_LEGACY_KERAS'] = '0'",
    ],
)
def test_what_may_do_without_keras_or_chooses_itself_is_let_be(
    tmp_path: Path, keras_3: str, text: str
) -> None:
    assert told(write(tmp_path / "proj", train=text), "collective", keras_3) == []


def test_a_module_called_keras_of_ones_own_is_not_keras(tmp_path: Path, keras_3: str) -> None:
    folder = write(tmp_path / "proj", train="import keras", keras="layers = None")
    assert told(folder, "collective", keras_3) == []


USES_OF_TF_KERAS = [
    "from tensorflow import keras",
    "import tensorflow.keras as keras",
    "from tensorflow.keras import layers",
    "import tensorflow as tf\nmodel = tf.keras.Sequential()",
    "import tensorflow\ndef main(): return tensorflow.keras.Model",
    "import tensorflow.compat.v2 as tf\nmodel = tf.keras.Sequential()",
    "import tensorflow as tf\noptimizer = tf.optimizers.SGD()",
]


@pytest.mark.parametrize("text", USES_OF_TF_KERAS)
def test_tf_keras_is_told_to_be_tf_keras(
    tmp_path: Path, keras_3: str, keras_2: str, text: str
) -> None:
    folder = write(tmp_path / "proj", train=text)
    note = (
        "tf.keras is tf-keras in this run (TF_USE_LEGACY_KERAS=1), since Keras 3.15.1 does not "
        "train with MultiWorkerMirroredStrategy (backend 'collective'). "
        "--env TF_USE_LEGACY_KERAS=0 leaves it as it is."
    )
    assert told(folder, "collective", keras_3) == [note]
    assert told(folder, "collective", keras_2) == told(folder, "single", keras_3) == []
    chosen = {"environment_variables": {"TF_USE_LEGACY_KERAS": "1"}}
    assert told(folder, "collective", keras_3, **chosen) == []


def test_a_script_without_keras_is_told_nothing(tmp_path: Path, without_tf_keras: str) -> None:
    text = "import tensorflow as tf\nprint(tf.constant(1))\nkeras = tf.Module()\nkeras.layers = 1"
    assert told(write(tmp_path / "proj", train=text), "ps", without_tf_keras) == []


@pytest.mark.parametrize("text", USES_OF_TF_KERAS)
def test_tf_keras_must_be_there(tmp_path: Path, without_tf_keras: str, text: str) -> None:
    folder = write(tmp_path / "proj", train=text)
    said = refusal(folder, "ps", without_tf_keras)
    assert "uses tf.keras, which must be tf-keras" in said
    assert f"{without_tf_keras} -m pip install --no-deps tf-keras~=2.21.0" in said
    leave = {"environment_variables": {"TF_USE_LEGACY_KERAS": "0"}}
    assert told(folder, "ps", without_tf_keras, **leave) == []


@pytest.mark.parametrize(
    "line",
    [
        "import horovod.tensorflow.keras as hvd",
        "from horovod.tensorflow import keras as hvd",
        "from horovod.tensorflow.keras.callbacks import MetricAverageCallback",
        "import horovod.keras as hvd",
        "from horovod import keras",
    ],
)
def test_horovods_keras_is_refused_where_it_does_not_average(
    tmp_path: Path, keras_3: str, keras_2: str, without_tf_keras: str, line: str
) -> None:
    folder = write(tmp_path / "proj", train=f"import tensorflow\n{line}")
    said = refusal(folder, "mpi", keras_3)
    assert "train.py:2 imports horovod." in said and "import hpctf.keras as hvd" in said
    assert told(folder, "mpi", keras_2) == told(folder, "collective", keras_3) == []
    allowed = {"environment_variables": {"HPCTF_ALLOW_HOROVOD_KERAS": "1"}}
    assert told(folder, "mpi", keras_3, **allowed) == []
    legacy = {"environment_variables": {"TF_USE_LEGACY_KERAS": "1"}}
    if "tensorflow" in line:
        assert told(folder, "mpi", keras_3, **legacy) == []
        assert "pip install --no-deps" in refusal(folder, "mpi", without_tf_keras, **legacy)
    else:  # it takes the package keras, whatever tf.keras is
        assert "does not average" in refusal(folder, "mpi", keras_3, **legacy)


FALLBACKS = [
    "try:\n    {line}\nexcept:\n    hvd = None",
    "try:\n    {line}\nexcept ImportError:\n    hvd = None",
    "def main():\n    try:\n        {line}\n    finally:\n        pass",
    "from contextlib import suppress\nwith suppress(ImportError):\n    {line}",
]


@pytest.mark.parametrize("around", FALLBACKS)
@pytest.mark.parametrize(
    "line",
    [
        "import horovod.tensorflow.keras as hvd",
        "from horovod.tensorflow.keras import *",
        "import horovod.keras as hvd",
        "hvd = __import__('horovod.keras')",
        "import distributed",
    ],
)
def test_horovods_keras_behind_a_fallback_is_refused_like_a_bare_import(
    tmp_path: Path, keras_3: str, keras_2: str, line: str, around: str
) -> None:
    """Each rank would train alone, and the run complete."""
    helper = "import horovod.tensorflow.keras as hvd"
    text = around.format(line=line)
    folder = write(tmp_path / "proj", train=text, distributed=helper)
    said = refusal(folder, "mpi", keras_3)
    place = "distributed.py:1" if "distributed" in line else "train.py:"
    assert place in said and "each rank would train a model of its own" in said
    assert said.index("--env TF_USE_LEGACY_KERAS=1") < said.index("import hpctf.keras as hvd")
    assert "experimental_run_tf_function out of model.compile" in said
    assert told(folder, "mpi", keras_2) == told(folder, "single", keras_3) == []


def test_who_has_hpctfs_module_besides_chooses_in_the_run(tmp_path: Path, keras_3: str) -> None:
    text = "try:\n    import hpctf.keras as hvd\nexcept ImportError:\n"
    text += "    import horovod.tensorflow.keras as hvd"
    assert told(write(tmp_path / "proj", train=text), "mpi", keras_3) == []


def test_the_advice_names_what_must_be_installed_for_it(
    tmp_path: Path, without_tf_keras: str
) -> None:
    folder = write(tmp_path / "proj", train="import horovod.tensorflow.keras as hvd")
    said = refusal(folder, "mpi", without_tf_keras)
    assert f"{without_tf_keras} -m pip install --no-deps tf-keras~=2.21.0" in said


def test_horovods_plain_module_is_not_refused(tmp_path: Path, keras_3: str) -> None:
    folder = write(tmp_path / "proj", train="import horovod.tensorflow as hvd, keras")
    assert told(folder, "mpi", keras_3) == []


@pytest.mark.parametrize("words", [[], ["--dry-run"]], ids=["submit", "dry run"])
def test_the_command_line_refuses_it_and_writes_nothing(
    tmp_path: Path, keras_3: str, words: list[str]
) -> None:
    project(tmp_path / "proj", text="import keras\n")
    asked = ["--site", "slurm", "--backend", "collective", "--nodes", "2", "--python", keras_3]
    done = hpctf("submit", *asked, *words, "train.py", cwd=tmp_path / "proj")
    assert done.returncode == 2, done.stderr
    assert done.stdout == "" and "train.py:1 imports keras" in done.stderr
    assert [path.name for path in (tmp_path / "proj").iterdir()] == ["train.py"]


def test_the_command_line_tells_the_choice(tmp_path: Path, keras_3: str) -> None:
    project(tmp_path, text="from tensorflow import keras\n")
    asked = ["--site", "slurm", "--backend", "ps", "--python", keras_3, "--dry-run"]
    done = hpctf("submit", *asked, "train.py", cwd=tmp_path)
    assert done.returncode == 0 and "note: tf.keras is tf-keras in this run" in done.stderr


def test_what_cannot_be_known_here_is_left_to_the_run(tmp_path: Path, keras_3: str) -> None:
    project(tmp_path, text="import keras\n")
    for unknown in (
        {"container": "docker://tensorflow/tensorflow"},
        {"modules": ["tensorflow/2.16"]},
        {"python": str(tmp_path / "train.py")},  # is there, and is no Python
    ):
        (tmp_path / "train.py").chmod(0o755)
        assert planned(tmp_path, distributed_backend="collective", **unknown).spec is None
    function = TensorFlow(function=print, distributed_backend="collective")
    make_plan(function, site_of(), run_id="e_1_a", experiment="e", run_folder="/runs/e_1_a")
    (tmp_path / "train.sh").write_text("#!/bin/sh\npython -c 'import keras'\n")
    (tmp_path / "train.sh").chmod(0o755)
    shell = TensorFlow(tmp_path, entry_script="train.sh", distributed_backend="ps", python=keras_3)
    make_plan(shell, site_of(), run_id="e_1_a", experiment="e", run_folder="/runs/e_1_a")


def test_an_environment_that_hpctf_builds_is_known_before_it_is_built(tmp_path: Path) -> None:
    project(tmp_path, text="import keras\n")
    asked = {"distributed_backend": "collective", "site": site_of("local")}
    with pytest.raises(UsageError, match=r"which is Keras 3 in environment tf2\.21-"):
        planned(tmp_path, framework_version="2.21", **asked)
    (tmp_path / "train.py").write_text("from tensorflow import keras\n")
    notes = planned(tmp_path, framework_version="2.21", **asked).notes
    assert any("tf.keras is tf-keras in this run" in note for note in notes)


@pytest.mark.parametrize(
    ("pip", "version", "keras"),
    [
        ([], "2.21", "3"),
        ([], "2.15", "2"),
        (["tensorflow"], "", "3"),
        (["tensorflow<2.16"], "", "2"),
        (["tensorflow-cpu<=2.15.1"], "", "2"),
        (["tensorflow>=2.16"], "", "3"),
        (["keras<3"], "2.21", "2"),
        (["keras==2.*"], "2.21", "2"),
        (["keras<3.0.0"], "2.21", "2"),
        (["keras<3.5"], "2.21", "3"),
        (["tensorflow @ https://example.org/tensorflow-2.15.0-py3-none-any.whl"], "", None),
        (["tf-nightly"], "", None),
        (["numpy"], "", None),
    ],
)
def test_pins_tell_which_keras_an_environment_will_have(
    pip: list[str], version: str, keras: str | None
) -> None:
    spec = EnvironmentSpec("pip", "3.11.2", pip=tuple(pip), tensorflow_version=version)
    found = libraries_in(spec)
    assert (found and found.keras) == keras


def test_the_training_environment_says_what_it_has(tmp_path: Path, training_python: str) -> None:
    found = libraries_of(training_python, {})
    assert found is not None and found.is_keras_3 and (found.tf_keras or "").startswith("2.21")
    project(tmp_path, text="import tensorflow as tf\nimport keras\n")
    said = refusal(tmp_path, "collective", training_python)
    assert f"train.py:2 imports keras, which is Keras {found.keras} in {training_python}" in said


def test_a_python_is_asked_with_the_training_s_own_path(tmp_path: Path, keras_2: str) -> None:
    assert libraries_of(keras_2, {}) == Libraries("2.15.1", "2.15.0", None)
    path = {"PYTHONPATH": str(Path(keras_2).parent / "packages")}
    assert libraries_of(sys.executable, path) == Libraries("2.15.1", "2.15.0", None)
    assert libraries_of(str(tmp_path / "none"), {}) is None


def test_the_entry_script_comes_first(tmp_path: Path) -> None:
    write(tmp_path, train="import helper\nimport keras", helper="import keras.utils")
    found = imports_of(tmp_path / "train.py", tmp_path).first_import("keras")
    assert found is not None and str(found[1]) == "train.py:2"
