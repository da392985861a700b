"""What was requested, as plain data: it goes on record, and makes the same estimator again."""

from __future__ import annotations

import contextlib
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hpctf.errors import UsageError, did_you_mean, shown
from hpctf.estimator.distribution import COUNTS, SETTINGS, Distribution
from hpctf.estimator.parameters import CHANGEABLE, OF_BACKENDS, RECORDED
from hpctf.estimator.tensorflow import TensorFlow

_LABELS = ("tags", "properties")
_MAPPINGS = ("script_params", "environment_variables", "inputs", "stage", "sbatch", *_LABELS)
CHANGES = (*CHANGEABLE, *_LABELS)
"""What may be requested differently when a run is submitted again."""


def request_of(estimator: TensorFlow) -> dict[str, Any]:
    """Return what an estimator asks for, as what JSON can hold.

    A function stands there by its name and text: what runs is its pickle.
    """
    request = {name: as_json(getattr(estimator, name)) for name in RECORDED}
    request["distributed_backend"] = estimator.backend
    for name, setting in OF_BACKENDS.items():
        if getattr(estimator, name) != setting.default:
            request[name] = getattr(estimator, name)
    if estimator.function is not None:
        request["function"] = _function(estimator.function)
    return request


def estimator_from(
    request: Mapping[str, Any],
    source_directory: str | Path | None,
    function: Callable[..., Any] | None = None,
) -> TensorFlow:
    """Return the estimator that asks for what a request says; what it leaves out is the usual."""
    given = {name: request[name] for name in RECORDED if name in request}
    if function is not None:
        given["arguments"] = None
    backend = request.get("distributed_backend")
    training = _training(backend, request)
    given |= {name: getattr(training, name) for name in COUNTS if hasattr(training, name)}
    return TensorFlow(
        source_directory,
        function=function,
        distributed_backend=None if training else backend,
        distributed_training=training,
        **given,
    )


def changed(request: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a request with some things requested differently. Mappings take in what is given; of a
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
    for name, other in (("inputs", "stage"), ("stage", "inputs")):
        given = (changes.get(name) or {}).keys() - (changes.get(other) or {}).keys()
        if given:  # the other one may have them as they were
            new[other] = {key: new[other][key] for key in (new.get(other) or {}).keys() - given}
    if changes.get("gpus_per_node") == 0 and "use_gpu" not in changes:
        new["use_gpu"] = False
    if changes.get("use_gpu") is False and "gpus_per_node" not in changes:
        new["gpus_per_node"] = None
    return new


def _training(backend: str | None, request: Mapping[str, Any]) -> Distribution | None:
    """Return the backend with settings of its own, if any is named."""
    for kind, settings in SETTINGS.items():
        own = {name: request[name] for name in settings if request.get(name) is not None}
        if own and backend != kind.backend:
            flags = [flag for one in settings.values() for flag in one.flags]
            raise UsageError(
                f"{', '.join(flags[:-1])} and {flags[-1]} belong to backend {kind.backend!r}.",
                f"Use --backend {kind.backend}.",
            )
        if own:
            # A count that the request leaves out, or has as null, is 1.
            for name in COUNTS:
                if hasattr(kind, name):
                    own[name] = 1 if request.get(name) is None else request[name]
            return kind(**own)
    return None


def _function(function: Callable[..., Any]) -> dict[str, Any]:
    """Return a function's name and, where it is to be had, its text."""
    text = None
    with contextlib.suppress(OSError, TypeError):
        text = inspect.getsource(function)
    names = (getattr(function, name, None) for name in ("__module__", "__qualname__"))
    return {"name": ".".join(str(name) for name in names if name) or repr(function), "text": text}


def as_json(value: Any) -> Any:
    """Return a value as JSON has it; what it cannot hold by its text."""
    if isinstance(value, Mapping):
        return {str(key): as_json(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [as_json(inner) for inner in value]
    if value is None or isinstance(value, (str, bool, int, float)):
        return value
    return repr(value)
