"""``/swagger.json``: what the service answers, for people and for tools that call it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from hpctf.serving.server.model import Model
from hpctf.serving.server.tensors import TensorSpec

_TYPES = {
    "BOOL": "boolean",
    "BYTES": "string",
    "FP16": "number",
    "FP32": "number",
    "FP64": "number",
}
_REFUSALS = {
    "400": "The request breaks the protocol, or the model does not take it.",
    "401": "The token is missing or wrong.",
    "404": "There is no such model or version.",
    "408": "The request did not come in time.",
    "413": "The request is too large.",
    "415": "The body is compressed.",
    "503": "Too busy: try again.",
}


def openapi(
    service: str, models: Sequence[Model], script: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Return the OpenAPI document of a service.

    Parameters
    ----------
    script
        What is known of an entry script's ``input`` and ``output``: schemas; None: there is none.
    """
    paths: dict[str, Any] = {
        "/v2/health/live": {"get": _operation("Is the server running?", is_open=True)},
        "/v2/health/ready": {"get": _operation("Are all models loaded?", is_open=True)},
        "/v2": {"get": _operation("Name, version and extensions of the server")},
        "/metrics": {"get": _operation("Metrics for Prometheus", "text/plain")},
        "/swagger.json": {"get": _operation("This document")},
    }
    for model in models:
        place = f"/v2/models/{model.name}"
        paths[place] = {"get": _operation("Inputs and outputs of the model")}
        paths[f"{place}/ready"] = {"get": _operation("Is the model loaded?")}
        paths[f"{place}/infer"] = {"post": _post("Run the model", _inference(model.inputs))}
    if script is not None:
        made = _post("Call run() of the entry script", script.get("input", {}))
        made["responses"]["200"] = {
            "description": "Done",
            "content": {"application/json": {"schema": script.get("output", {})}},
        }
        made["responses"]["500"] = {"description": "The entry script failed."}
        paths["/score"] = {"post": made}
    elif models:
        paths["/score"] = {"post": _post("Run the model on rows", _rows(models[0].inputs))}
    return {
        "openapi": "3.0.3",
        "info": {"title": service, "version": models[0].version if models else "1"},
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {
                "Refusal": {
                    "type": "object",
                    "required": ["error"],
                    "properties": {"error": {"type": "string"}},
                }
            },
        },
        "security": [{"token": []}],
    }


def _operation(
    summary: str, content: str = "application/json", *, is_open: bool = False
) -> dict[str, Any]:
    answers: dict[str, Any] = {"200": {"description": "Done", "content": {content: {}}}}
    made: dict[str, Any] = {"summary": summary, "responses": answers}
    if is_open:
        made["security"] = []
    else:
        answers["401"] = _refusal(_REFUSALS["401"])
    answers["503"] = _refusal(_REFUSALS["503"])
    return made


def _post(summary: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    made = _operation(summary)
    made["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    for status, words in _REFUSALS.items():
        made["responses"][status] = _refusal(words)
    made["responses"]["502"] = _refusal("The entry script's process ended.")
    return made


def _refusal(words: str) -> dict[str, Any]:
    schema = {"$ref": "#/components/schemas/Refusal"}
    return {"description": words, "content": {"application/json": {"schema": schema}}}


def _inference(inputs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    tensor = {
        "type": "object",
        "required": ["name", "shape", "datatype", "data"],
        "properties": {
            "name": {"type": "string", "enum": list(inputs)},
            "datatype": {"type": "string", "enum": sorted({s.datatype for s in inputs.values()})},
            "shape": {"type": "array", "items": {"type": "integer", "minimum": 1}},
            "data": {"type": "array", "items": {}},
        },
    }
    properties = {"id": {"type": "string"}, "inputs": {"type": "array", "items": tensor}}
    return {"type": "object", "required": ["inputs"], "properties": properties}


def _rows(inputs: Mapping[str, TensorSpec]) -> dict[str, Any]:
    arrays = {name: _array(spec) for name, spec in inputs.items()}
    only = next(iter(arrays.values())) if len(arrays) == 1 else {}
    several = {"type": "object", "required": list(arrays), "properties": arrays}
    data = {"oneOf": [only, several]} if only else several
    return {"type": "object", "required": ["data"], "properties": {"data": data}}


def _array(spec: TensorSpec) -> dict[str, Any]:
    made: dict[str, Any] = {"type": _TYPES.get(spec.datatype, "integer")}
    for size in reversed(spec.shape):
        made = {"type": "array", "items": made}
        if size >= 0:
            made.update(minItems=size, maxItems=size)
    return made
