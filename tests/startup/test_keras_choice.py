"""With parameter servers and MultiWorkerMirroredStrategy tf.keras is tf-keras, and says so."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from hpctf.common.paths import STARTUP
from tests.client.test_run_context import pythons, say

ASK = "import os, tensorflow; print(os.environ.get('TF_USE_LEGACY_KERAS'))"
COLLECTIVE = {"HPCTF_BACKEND": "collective", "HPCTF_RANK": "0"}
LAZY = """
def __getattr__(name):
    if name != "keras":
        raise AttributeError(name)
    import tf_keras
    return tf_keras
"""


def environment(folder: Path, keras: str, tf_keras: str | None = "2.21.0") -> Path:
    """Make a stand-in for a training environment."""
    packages = {"tensorflow": "2.21.0", "keras": keras, "tf_keras": tf_keras}
    for package, version in packages.items():
        if version:
            (folder / package).mkdir(parents=True)
            (folder / package / "__init__.py").write_text("" if package != "tensorflow" else LAZY)
            (folder / f"{package}-{version}.dist-info").mkdir()
    return folder


def run(site: Path, code: str = ASK, python: str = sys.executable, **env: str) -> tuple[str, str]:
    done = say(python, path=[STARTUP, site], code=code, **env)
    return done.stdout.strip(), done.stderr.strip()


@pytest.mark.parametrize("python", pythons())
@pytest.mark.parametrize(
    ("backend", "strategy"),
    [("ps", "ParameterServerStrategy"), ("collective", "MultiWorkerMirroredStrategy")],
)
def test_tf_keras_is_chosen_and_the_first_rank_says_so(
    tmp_path: Path, python: str, backend: str, strategy: str
) -> None:
    site = environment(tmp_path, "3.15.1")
    said = run(site, python=python, HPCTF_BACKEND=backend, HPCTF_RANK="0")
    assert said == (
        "1",
        "hpctf: tf.keras is tf-keras 2.21.0 in this run (TF_USE_LEGACY_KERAS=1): "
        f"Keras 3.15.1 does not train with {strategy}.",
    )
    assert run(site, python=python, HPCTF_BACKEND=backend, HPCTF_RANK="1") == ("1", "")


@pytest.mark.parametrize("backend", ["single", "mpi"])
def test_other_backends_keep_their_keras(tmp_path: Path, backend: str) -> None:
    site = environment(tmp_path, "3.15.1")
    assert run(site, HPCTF_BACKEND=backend, HPCTF_RANK="0") == ("None", "")


def test_who_has_set_the_variable_has_chosen(tmp_path: Path) -> None:
    site = environment(tmp_path, "3.15.1")
    assert run(site, TF_USE_LEGACY_KERAS="0", **COLLECTIVE) == ("0", "")
    code = "import keras; print('keras 3')"
    out, err = run(site, code, TF_USE_LEGACY_KERAS="0", **COLLECTIVE)
    assert out == "keras 3"
    assert err.startswith("hpctf: Keras 3.15.1 with MultiWorkerMirroredStrategy, as TF_USE_LEGACY")
    assert "clips gradients before they are exchanged" in err
    other = {**COLLECTIVE, "HPCTF_RANK": "1"}
    assert run(site, code, TF_USE_LEGACY_KERAS="0", **other) == ("keras 3", "")


@pytest.mark.parametrize("chosen", ["1", "true"])
def test_who_has_chosen_tf_keras_does_not_get_keras_3(tmp_path: Path, chosen: str) -> None:
    site = environment(tmp_path, "3.15.1")
    for code in ("import keras", "import tensorflow, keras"):
        _, err = run(site, code, TF_USE_LEGACY_KERAS=chosen, **COLLECTIVE)
        assert "ImportError: keras is Keras 3.15.1 here" in err
        assert "TF_USE_LEGACY_KERAS=0 imports it all the same" in err
        assert run(site, code, TF_USE_LEGACY_KERAS=chosen, HPCTF_BACKEND="mpi") == ("", "")


def test_keras_2_is_left_alone(tmp_path: Path) -> None:
    site = environment(tmp_path, "2.15.0", tf_keras=None)
    assert run(site, f"import keras; {ASK}", **COLLECTIVE) == ("None", "")


@pytest.mark.parametrize("python", pythons())
@pytest.mark.parametrize("before", ["", "import tensorflow; "])
def test_the_package_keras_is_refused_with_the_line_to_write(
    tmp_path: Path, python: str, before: str
) -> None:
    site = environment(tmp_path, "3.15.1")
    out, err = run(site, f"{before}from keras import layers", python=python, **COLLECTIVE)
    assert out == ""
    assert "ImportError: keras is Keras 3.15.1 here" in err
    assert "does not train with MultiWorkerMirroredStrategy" in err
    assert "\n    from tensorflow import keras\n" in err


def test_who_asks_whether_keras_is_there_is_told(tmp_path: Path) -> None:
    code = "from importlib.util import find_spec; print(find_spec('keras').origin)"
    site = environment(tmp_path, "3.15.1")
    assert run(site, code, **COLLECTIVE)[0] == f"{site}/keras/__init__.py"


def test_without_tf_keras_only_who_uses_keras_is_told(tmp_path: Path) -> None:
    site = environment(tmp_path, "3.15.1", tf_keras=None)
    assert run(site, **COLLECTIVE) == ("1", "")
    _, err = run(site, "import tensorflow; tensorflow.keras", **COLLECTIVE)
    assert "pip install --no-deps 'tf-keras~=2.21.0'" in err
    assert "No module named 'tf_keras'" in err
