"""What was asked for, as plain data: it goes on record, and makes the same estimator again."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from hpctf.errors import UsageError, did_you_mean, shown
from hpctf.estimator.tensorflow import Distribution, Mpi, ParameterServer, TensorFlow

_AS_THEY_ARE = (
    "entry_script",
    "script_params",
    "arguments",
    "compute_target",
    "node_count",
    "process_count_per_node",
    "worker_count",
    "parameter_server_count",
    "use_gpu",
    "gpus_per_node",
    "cpus_per_task",
    "mem",
    "environment_variables",
    "inputs",
    "max_run_duration_seconds",
    "max_restarts",
    "grace_seconds",
    "warning_signal",
    "resume_from",
    "timeline",
    "profile",
    "azureml",
    "sbatch",
)
"""The estimator's parameters whose values are its attributes of that name."""

SOFTWARE = (
    "python",
    "user_managed",
    "modules",
    "container",
    "pip_packages",
    "pip_requirements_file",
    "conda_packages",
    "conda_dependencies_file",
    "framework_version",
    "python_version",
)
"""The same, of those that say what the training runs in."""

_OF_PS = ("placement", "coordinator", "chief", "max_worker_restarts")
_USUAL = {one.name: one.default for one in fields(ParameterServer) if one.name in _OF_PS}
_LABELS = ("tags", "properties")
_MAPPINGS = ("script_params", "environment_variables", "inputs", "sbatch", *_LABELS)
CHANGES = (*_AS_THEY_ARE, *_OF_PS, "pin_gpus", *_LABELS)
"""What may be asked for otherwise when a run is submitted again."""


def request_of(estimator: TensorFlow) -> dict[str, Any]:
    """Return what an estimator asks for, as what JSON can hold.

    A function stands there by its name and text: what runs is its pickle.
    """
    request = {name: plain(getattr(estimator, name)) for name in (*_AS_THEY_ARE, *SOFTWARE)}
    request["distributed_backend"] = estimator.backend
    own = {name: getattr(estimator, name) for name in ("coordinator", "chief")}
    own["placement"], own["max_worker_restarts"] = (
        estimator.ps_placement,
        estimator.max_worker_restarts,
    )
    request |= {name: value for name, value in own.items() if value != _USUAL[name]}
    if estimator.pin_gpus is not None:
        request["pin_gpus"] = estimator.pin_gpus
    if estimator.function is not None:
        request["function"] = _function(estimator.function)
    return request


def estimator_from(
    request: Mapping[str, Any],
    source_directory: str | Path | None,
    function: Callable[..., Any] | None = None,
) -> TensorFlow:
    """Return the estimator that asks for what a request says; what it leaves out is the usual.

    Raises
    ------
    UsageError
        What the estimator refuses.
    """
    given = {name: request[name] for name in (*_AS_THEY_ARE, *SOFTWARE) if name in request}
    if given.get("profile", False) is None:
        given["profile"] = False
    if function is not None:
        given["arguments"] = None
    backend = request.get("distributed_backend")
    training = _training(backend, request)
    for name, count in vars(training).items() if training else ():
        if name in ("process_count_per_node", "worker_count", "parameter_server_count"):
            given[name] = count
    return TensorFlow(
        source_directory,
        function=function,
        distributed_backend=None if training else backend,
        distributed_training=training,
        **given,
    )


def changed(request: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request with some things asked for otherwise. Mappings take in what is given; of a
    script's arguments those given replace all.

    Raises
    ------
    UsageError
        A change of what no request has, or that stays as it was.
    """
    for name in changes:
        if name not in CHANGES:
            raise UsageError(
                f"{name} cannot be changed when a run is submitted again."
                f"{did_you_mean(name, list(CHANGES))}",
                "The code and its environment stay. For others submit anew: hpctf submit.",
            )
    if request.get("function") and changes.keys() & {"entry_script", "script_params", "arguments"}:
        raise UsageError(
            "The run is of a function, whose arguments are pickled with it and stay.",
            "Submit the function anew: Experiment.submit(TensorFlow(function=...)).",
        )
    new = {**request, **changes}
    if "arguments" in changes and "script_params" not in changes:
        new["script_params"] = {}
    for name in set(_MAPPINGS) & set(changes) - {"script_params"}:
        if not isinstance(changes[name], Mapping):
            raise UsageError(f"{name} must be a mapping, not {shown(changes[name])}.")
        new[name] = {**(request.get(name) or {}), **changes[name]}
    if changes.get("gpus_per_node") == 0 and "use_gpu" not in changes:
        new["use_gpu"] = False
    if changes.get("use_gpu") is False and "gpus_per_node" not in changes:
        new["gpus_per_node"] = None
    return new


def _training(backend: str | None, request: Mapping[str, Any]) -> Distribution | None:
    """Return the backend with settings of its own, if any is named."""
    own = {name: request[name] for name in _OF_PS if request.get(name) is not None}
    pin = request.get("pin_gpus")
    if own and backend != "ps":
        raise UsageError(
            "--ps-placement, --ps-mode, --chief and --max-worker-restarts belong to backend 'ps'.",
            "Say --backend ps.",
        )
    if pin is not None and backend != "mpi":
        raise UsageError("--pin-gpus and --no-pin-gpus belong to backend 'mpi'.")
    if own:
        workers, servers = request.get("worker_count"), request.get("parameter_server_count")
        return ParameterServer(_one(workers), _one(servers), **own)
    return None if pin is None else Mpi(_one(request.get("process_count_per_node")), pin)


def _one(count: int | None) -> int:
    return 1 if count is None else count


def _function(function: Callable[..., Any]) -> dict[str, Any]:
    """Return a function's name and, where it is to be had, its text."""
    text = None
    with contextlib.suppress(OSError, TypeError):
        text = inspect.getsource(function)
    names = (getattr(function, name, None) for name in ("__module__", "__qualname__"))
    return {"name": ".".join(str(name) for name in names if name) or repr(function), "text": text}


def plain(value: Any) -> Any:
    """Return a value as JSON has it; what it cannot hold by its text."""
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    return repr(value)
