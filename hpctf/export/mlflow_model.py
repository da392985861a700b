"""A registered model as an MLflow model: a folder that MLflow loads, serves and registers.

Neither TensorFlow nor MLflow is needed to write it. What only they can know is left out: the
signature (shapes and types of inputs and outputs) and an example of inputs.
"""

from __future__ import annotations

import contextlib
import json
import os
import uuid
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctf._version import __version__
from hpctf.common.folders import remove_tree
from hpctf.common.numbered import hidden_name
from hpctf.environment.lock import read_lock
from hpctf.environment.store import LOCK_FILE
from hpctf.errors import HpctfError, UsageError
from hpctf.models.onnx_model import loaded_file

if TYPE_CHECKING:
    from hpctf.model import Model

_MLFLOW = "mlflow"
_KERAS_3 = "3"
_SERVE = b"\x12\x05serve"
"""What a SavedModel holds that Keras' ``model.export`` has written: a child of the name ``serve``,
as saved_object_graph.proto has it."""


@dataclass(frozen=True)
class _Flavor:
    """How MLflow loads a model.

    ``module`` has the loader, ``options`` are the flavor's own, ``data`` is what the loader gets,
    ``place`` where the model's file or folder lies, and ``texts`` are files besides.
    """

    module: str
    options: Mapping[str, Any]
    place: str
    texts: Mapping[str, str]
    needs: tuple[str, ...]
    data: str | None = None


def write_mlflow_model(model: Model, to: Path) -> Path:
    """Write a model as an MLflow model into a new folder, and return that.

    Raises
    ------
    UsageError
        The folder exists, or MLflow has no flavor for the model's files.
    UnreadableModel
        A file is not what was registered.
    """
    if os.path.lexists(to):
        raise UsageError(f"{str(to)!r} exists already.", "Name a new folder: --to DIR")
    to.parent.mkdir(parents=True, exist_ok=True)
    beside = to.parent / hidden_name()
    beside.mkdir()
    try:
        copied = Path(model.download(beside / "copied"))
        flavor = _flavor_of(model, copied)
        made = beside / "model"
        place = made / flavor.place
        place.parent.mkdir(parents=True)
        os.rename(copied, place)
        for name, text in _documents(model, flavor).items():
            (made / name).write_text(text, "utf-8")
        os.rename(made, to)
    finally:
        with contextlib.suppress(OSError):
            remove_tree(beside)
    return to


def _flavor_of(model: Model, copied: Path) -> _Flavor:
    """Return how MLflow loads the model (mlflow/keras, mlflow/tensorflow, mlflow/onnx)."""
    kind = model.record.kind
    if kind == "keras" and not _keras_version(copied).startswith(_KERAS_3):
        kind = "keras_2"
    if kind == "keras":
        options = {
            "data": "data",
            "keras_version": _keras_version(copied),
            "keras_backend": "tensorflow",
            "save_exported_model": False,
        }
        texts = {"data/keras_module.txt": "keras"}
        return _Flavor("keras", options, "data/model.keras", texts, ("keras", "tensorflow"))
    if kind in ("h5", "keras_2"):
        ending, form = ("h5", "h5") if kind == "h5" else ("keras", "keras")
        texts = {"data/keras_module.txt": _keras_module(model), "data/save_format.txt": form}
        options = {"data": "data", "model_type": "keras", "save_format": form}
        return _Flavor(
            "tensorflow", options, f"data/model.{ending}", texts, ("tensorflow",), "data"
        )
    if kind == "saved_model" and _SERVE in (copied / "saved_model.pb").read_bytes():
        options = {"data": "data", "keras_backend": "tensorflow", "save_exported_model": True}
        return _Flavor("keras", options, "data/model", {}, ("keras", "tensorflow"))
    if kind == "saved_model":
        options = {"saved_model_dir": "tf2model", "model_type": "tf2-module"}
        return _Flavor("tensorflow", options, "tf2model", {}, ("tensorflow",))
    if kind == "onnx":
        inside = loaded_file(model.folder, copied).relative_to(copied)  # "." if it is the file
        place = "model.onnx" if copied.is_file() else "model"
        data = os.path.normpath(f"{place}/{inside}")
        options = {"data": data, "providers": ["CPUExecutionProvider"]}
        return _Flavor("onnx", options, place, {}, ("onnx", "onnxruntime"), data)
    raise UsageError(
        f"Model {model.id} cannot be written as an MLflow model: MLflow loads .keras, .h5 and "
        f".onnx files and SavedModels, and this is {model.record.path!r}.",
        f"Copy its files instead: hpctf models download {model.id}",
    )


def _keras_version(file: Path) -> str:
    """Return the version of Keras that wrote a file, as the file itself says."""
    try:
        with zipfile.ZipFile(file) as archive:
            return str(json.loads(archive.read("metadata.json"))["keras_version"])
    except (OSError, ValueError, KeyError, TypeError, zipfile.BadZipFile):
        raise UsageError(
            f"{file.name!r} is not a model of Keras': it has no metadata.json.",
            "Save it with model.save('outputs/model.keras'), and register that.",
        ) from None


def _keras_module(model: Model) -> str:
    """Return the package that reads a model of Keras 2's, or an h5 file of its run's Keras."""
    packages = _packages(model)
    names = {line.partition("==")[0].strip().lower().replace("_", "-") for line in packages}
    return "tf_keras" if "tf-keras" in names else "tensorflow.keras"


def _documents(model: Model, flavor: _Flavor) -> dict[str, str]:
    requirements = _requirements(model, flavor)
    python = _python_version(model)
    build = [] if python is None else [f"python={python}"]
    conda = {
        "channels": ["conda-forge"],
        "dependencies": [*build, "pip", {"pip": requirements}],
        "name": "mlflow-env",
    }
    environment = {
        **({} if python is None else {"python": python}),
        "build_dependencies": ["pip"],
        "dependencies": ["-r requirements.txt"],
    }
    return {
        **flavor.texts,
        "MLmodel": _yaml(_about(model, flavor, python)),
        "requirements.txt": "\n".join([*requirements, ""]),
        "conda.yaml": _yaml(conda),
        "python_env.yaml": _yaml(environment),
    }


def _about(model: Model, flavor: _Flavor, python: str | None) -> dict[str, Any]:
    record, labels = model.record, model.folder.labels()
    made = datetime.fromtimestamp(record.registered, timezone.utc)
    python_function = {
        **({} if flavor.data is None else {"data": flavor.data}),
        "env": {"conda": "conda.yaml", "virtualenv": "python_env.yaml"},
        "loader_module": f"mlflow.{flavor.module}",
        **({} if python is None else {"python_version": python}),
    }
    return {
        "flavors": {flavor.module: dict(flavor.options), "python_function": python_function},
        "metadata": {
            "hpctf.model": model.id,
            "hpctf.version": __version__,
            "hpctf.run_id": model.run_id,
            "hpctf.git_commit": None if record.run is None else record.run.git_commit,
            "description": labels.description,
            "tags": labels.tags,
            "properties": labels.properties,
            "sha256": {name: file.sha256 for name, file in record.files.items()},
        },
        "model_size_bytes": record.bytes,
        "model_uuid": uuid.UUID(record.id).hex,
        "utc_time_created": made.strftime("%Y-%m-%d %H:%M:%S.%f"),
    }


def _requirements(model: Model, flavor: _Flavor) -> list[str]:
    """Return the packages that the model is loaded with: all of its run's lock, or else what the
    flavor needs in the versions that are known."""
    packages = _packages(model)
    if packages and flavor.module != "onnx":
        return [_MLFLOW, *packages]
    version = model.record.framework_version
    known = (
        {}
        if version is None or model.record.framework != "TensorFlow"
        else {"tensorflow": f"tensorflow=={version}"}
    )
    if "keras_version" in flavor.options:
        known["keras"] = f"keras=={flavor.options['keras_version']}"
    return [_MLFLOW, *(known.get(name, name) for name in flavor.needs)]


def _packages(model: Model) -> list[str]:
    try:
        return list(read_lock(model.folder.run / LOCK_FILE).packages)
    except HpctfError:
        return []


def _python_version(model: Model) -> str | None:
    try:
        return read_lock(model.folder.run / LOCK_FILE).spec.python_version or None
    except HpctfError:
        return None


def _yaml(value: Any) -> str:
    """Return YAML of plain data: JSON is that, and needs no library."""
    return json.dumps(value, indent=2) + "\n"
