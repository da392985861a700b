"""``/score`` without a script: ``{"data": rows}``, or rows by the names of several inputs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpctf.serving.server.protocol import Body, as_json, json_object
from hpctf.serving.server.refusal import wrong
from hpctf.serving.server.tensors import TensorSpec, check_shape, of_values


def to_score(body: Body, inputs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    """Return a model's inputs from the body of a request.

    Raises
    ------
    Refusal
        It is not JSON, or does not fit the model.
    """
    data = json_object(body).get("data")
    if isinstance(data, list) and len(inputs) == 1:
        data = dict.fromkeys(inputs, data)
    if not isinstance(data, dict) or data.keys() != inputs.keys():
        raise wrong(
            f'The body must be {{"data": ...}} with rows for {", ".join(map(repr, inputs))}.'
        )
    return {name: _input(spec, data[name]) for name, spec in inputs.items()}


def _input(spec: TensorSpec, rows: Any) -> Any:
    if not isinstance(rows, list):
        raise wrong(f"Input {spec.name!r}: its rows must be a list.")
    found = of_values(spec, rows)
    check_shape(spec, list(found.shape))
    return found


def scored(outputs: Mapping[str, Any]) -> bytes:
    """Return the answer: the only output's rows, or those of each by its name."""
    found = {
        name: value.tolist() if value.dtype == object else value for name, value in outputs.items()
    }
    return as_json({"result": next(iter(found.values())) if len(found) == 1 else found})
