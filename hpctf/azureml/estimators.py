"""Azure ML's estimators: `hpctf.TensorFlow` with the parameters and defaults that they have."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctf.azureml.datasets import FileDataset
from hpctf.azureml.datastore import Datastore, OnDisk
from hpctf.azureml.environment import NAMES_NONE, without_sdk
from hpctf.azureml.refusing import refuses
from hpctf.environment import tensorflow_versions
from hpctf.environment.tensorflow_versions import TESTED
from hpctf.errors import UsageError
from hpctf.estimator import tensorflow
from hpctf.estimator.software import NOT_HERE

NOTED = ("vm_size", "vm_priority", "shm_size")
"""Parameters that change nothing on a cluster: a note says what to use in their place."""

_IMAGES = ("container", "custom_docker_image", "custom_docker_base_image")


@refuses("Mpi")
@dataclass(frozen=True)
class Mpi(tensorflow.Mpi):
    """MPI as hpctf has it."""


@refuses("ParameterServer")
@dataclass(frozen=True)
class ParameterServer(tensorflow.ParameterServer):
    """Parameter servers as Azure ML has them: the script runs on every worker and every ps, and
    no rank is the chief."""

    coordinator: bool = False
    chief: bool = False


@refuses("TensorFlow")
class TensorFlow(tensorflow.TensorFlow):
    """`hpctf.TensorFlow` with all parameters of Azure ML's, whose counts are 1 by default.

    Those of hpctf's own (``mem``, ``python``, ``container`` ...) are taken, too.
    """

    FRAMEWORK_NAME = "TensorFlow"
    DEFAULT_VERSION = TESTED

    @staticmethod
    def get_supported_versions() -> list[str]:
        """Return the version that a run gets whose script names none, as a list."""
        return [TESTED]

    def __init__(
        self, source_directory: str | os.PathLike[str] | None = None, **asked: Any
    ) -> None:
        self.notes: list[str] = []
        known = {name: value for name, value in asked.items() if not _is_silent(name, value)}
        for name in NOTED:
            if known.pop(name, None) is not None:
                self.notes.append(f"{name} means nothing on a cluster. {NOT_HERE[name]}")
        if known.get("use_docker") and known.keys().isdisjoint(_IMAGES):
            del known["use_docker"]  # Azure ML's default: runs on a cluster need no image
        if too_old(known.get("framework_version")):
            self.notes.append(NAMES_NONE.format(f"TensorFlow {known.pop('framework_version')}"))
        target = known.get("compute_target")
        self.on_this_machine = target == "local"
        known["compute_target"] = None if self.on_this_machine else getattr(target, "name", target)
        _as_azure_ml_distributes(known)
        _name_data(known)
        for name in ("pip_packages", "conda_packages"):
            if isinstance(known.get(name), (list, tuple)):
                known[name] = without_sdk(known[name], self.notes)
        super().__init__(source_directory, **known)


class Estimator(TensorFlow):
    """A training of any framework: its packages are those that it names, and no others."""

    def __init__(
        self, source_directory: str | os.PathLike[str] | None = None, **asked: Any
    ) -> None:
        if "framework_version" in asked:
            raise UsageError(
                "framework_version is TensorFlow's, and Estimator() knows no framework.",
                "Use TensorFlow(...), or pip_packages=['tensorflow==...'].",
            )
        super().__init__(source_directory, **asked)


def too_old(version: Any) -> bool:
    """Whether it is a version of TensorFlow that can no longer be installed, as 1.13 and 2.0."""
    oldest = tensorflow_versions.OLDEST
    return isinstance(version, str) and (tensorflow_versions.series(version) or oldest) < oldest


def _is_silent(name: str, value: Any) -> bool:
    """Whether a parameter says nothing: Azure ML's private ones, and those left at None."""
    return value is None or (name.startswith("_") and not name.startswith("__"))


def _as_azure_ml_distributes(asked: dict[str, Any]) -> None:
    """Give counts the meaning that Azure ML's have: 1, their default, says nothing; its parameter
    servers are `ParameterServer`."""
    for name in ("process_count_per_node", "worker_count", "parameter_server_count"):
        if asked.get(name) == 1:
            del asked[name]
    if asked.get("distributed_backend") == "ps" and "distributed_training" not in asked:
        del asked["distributed_backend"]
        asked["distributed_training"] = ParameterServer(
            asked.pop("worker_count", 1), asked.pop("parameter_server_count", 1)
        )


def _name_data(asked: dict[str, Any]) -> None:
    """Give scripts the paths of data sets and datastores, and those with a name as inputs, too."""
    inputs = asked.get("inputs")
    listed = list(inputs.values()) if isinstance(inputs, Mapping) else list(inputs or ())
    words, params = asked.get("arguments"), asked.get("script_params")
    if any(isinstance(value, _DATA) for value in listed):
        asked["inputs"] = _inputs(inputs)
    if isinstance(params, Mapping):
        listed += params.values()
        asked["script_params"] = {name: _path(value) for name, value in params.items()}
    if isinstance(words, (list, tuple)):
        listed += words
        asked["arguments"] = [_path(word) for word in words]
    if isinstance(asked.get("resume_from"), OnDisk):
        asked["resume_from"] = asked["resume_from"].on_disk

    data = [value for value in listed if isinstance(value, OnDisk) and value.name]
    known = asked.get("inputs")
    if data and (known is None or isinstance(known, Mapping)):
        asked["inputs"] = {**{one.name: one.checked() for one in data}, **(known or {})}


_DATA = (OnDisk, FileDataset, Datastore)


def _path(value: Any) -> Any:
    if isinstance(value, (FileDataset, Datastore)):
        value = value.as_mount()
    return value.checked() if isinstance(value, OnDisk) else value


def _inputs(inputs: Any) -> dict[str, Any]:
    if isinstance(inputs, Mapping):
        return {name: _path(value) for name, value in inputs.items()}
    paths = {}
    for value in inputs:
        path = _path(value)
        paths[getattr(value, "name", None) or Path(path).stem] = path
    return paths
