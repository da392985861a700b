"""A registered model as MLflow reads it. That its loaders load them needs TensorFlow in MLflow's
environment, which no test has: the layouts are those of mlflow/keras and mlflow/tensorflow."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import pytest

from hpctf import Model, UsageError
from hpctf.export.mlflow_model import write_mlflow_model
from tests.support.exported import run_in
from tests.support.projects import hpctf

READ = """
import json, sys
from mlflow.models import Model
from mlflow.utils.environment import _PythonEnv

found = {}
for name in sys.argv[1:]:
    model = Model.load(name)
    _PythonEnv.from_yaml(name + "/python_env.yaml")
    found[name] = {
        "flavors": model.flavors, "metadata": model.metadata, "size": model.model_size_bytes,
        "id": model.model_uuid,
    }
print(json.dumps(found))
"""


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HPCTF_SITE", "local")
    monkeypatch.setenv("HPCTF_MODELS_ROOT", str(tmp_path / "models"))


def keras_file(path: Path, version: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("metadata.json", json.dumps({"keras_version": version}))
    return path


def test_mlflow_reads_each_kind(tmp_path: Path, tools_python: str) -> None:
    saved = tmp_path / "saved"
    (saved / "variables").mkdir(parents=True)
    (saved / "saved_model.pb").write_text("graph")
    exported = tmp_path / "exported"
    exported.mkdir()
    (exported / "saved_model.pb").write_bytes(b"..\x12\x05serve..")
    (tmp_path / "model.h5").write_text("weights")
    (tmp_path / "model.onnx").write_text("onnx")
    sources = {
        "keras": keras_file(tmp_path / "three.keras", "3.11.0"),
        "older": keras_file(tmp_path / "two.keras", "2.15.0"),
        "h5": tmp_path / "model.h5",
        "saved": saved,
        "exported": exported,
        "onnx": tmp_path / "model.onnx",
    }
    for name, source in sources.items():
        model = Model.register(
            source,
            name,
            {"stage": "final"},
            model_framework="TensorFlow",
            model_framework_version="2.18.0",
        )
        write_mlflow_model(model, tmp_path / f"mlflow-{name}")

    words = [f"mlflow-{name}" for name in sources]
    found = json.loads(run_in(tools_python, "-c", READ, *words, cwd=tmp_path).stdout)
    loaders = {
        name: found[f"mlflow-{name}"]["flavors"]["python_function"]["loader_module"]
        for name in sources
    }
    assert loaders == {
        "keras": "mlflow.keras",
        "older": "mlflow.tensorflow",
        "h5": "mlflow.tensorflow",
        "saved": "mlflow.tensorflow",
        "exported": "mlflow.keras",
        "onnx": "mlflow.onnx",
    }
    keras = found["mlflow-keras"]
    assert keras["flavors"]["keras"]["keras_version"] == "3.11.0"
    assert (keras["metadata"]["hpctf.model"], keras["metadata"]["tags"]) == (
        "keras:1",
        {"stage": "final"},
    )
    assert keras["id"] == Model("keras").record.id
    places = {
        "keras": "data/model.keras",
        "older": "data/model.keras",
        "h5": "data/model.h5",
        "saved": "tf2model/saved_model.pb",
        "exported": "data/model/saved_model.pb",
        "onnx": "model.onnx",
    }
    for name, place in places.items():
        assert (tmp_path / f"mlflow-{name}" / place).is_file(), name
    needs = (tmp_path / "mlflow-keras/requirements.txt").read_text().splitlines()
    assert needs == ["mlflow", "keras==3.11.0", "tensorflow==2.18.0"]


def test_what_mlflow_does_not_load_is_refused(tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_text("weights")
    (tmp_path / "broken.keras").write_text("not a zip file")
    Model.register(tmp_path / "weights.bin", "weights")
    broken = Model.register(tmp_path / "broken.keras", "broken")
    done = hpctf("models", "mlflow", "weights", "--to", "out", cwd=tmp_path)
    assert done.returncode == 2 and "hpctf models download weights:1" in done.stderr
    with pytest.raises(UsageError, match=r"'broken.keras' is not a model"):
        write_mlflow_model(broken, tmp_path / "out")
    with pytest.raises(UsageError, match="exists already"):
        write_mlflow_model(broken, tmp_path)
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".tmp-*"))
