"""Requests and answers of the Open Inference Protocol v2 over HTTP, with its binary extension.

Sources: the protocol's ``inference_rest.md``, and Triton's ``extension_binary_data.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

import orjson

from hpctf.errors import shown
from hpctf.serving.server.refusal import wrong
from hpctf.serving.server.tensors import (
    TensorSpec,
    check_shape,
    from_binary,
    from_json,
    to_binary,
    to_json,
)

HEADER_LENGTH = b"inference-header-content-length"
"""Header that says how many bytes of a body are JSON; tensors follow."""

Body = bytes | bytearray | memoryview

_MOST_NAME = 256
_NOTHING = memoryview(b"")


class Inference(NamedTuple):
    """What a request asks for: inputs by name, and outputs with whether each is to be binary."""

    id: str | None
    inputs: dict[str, Any]
    outputs: tuple[tuple[TensorSpec, bool], ...]


def parse(
    body: Body,
    header_length: bytes | None,
    inputs: Mapping[str, TensorSpec],
    outputs: Mapping[str, TensorSpec],
) -> Inference:
    """Return what a body asks of a model with these inputs and outputs.

    Raises
    ------
    Refusal
        It breaks the protocol, or does not fit the model.
    """
    head, rest = _split(body, header_length)
    document = json_object(head)
    given = document.get("inputs")
    if not isinstance(given, list) or not all(isinstance(one, dict) for one in given):
        raise wrong("inputs must be a list of tensors.")
    request_id = document.get("id")
    if request_id is not None and not isinstance(request_id, str):
        raise wrong("id must be a text.")
    tensors: dict[str, Any] = {}
    place = 0
    for one in given:
        spec = _named(one, inputs, "input")
        if spec.name in tensors:
            raise wrong(f"Input {spec.name!r} is given twice.")
        if one.get("datatype") != spec.datatype:
            raise wrong(
                f"Input {spec.name!r}: datatype is {shown(one.get('datatype'), 40)}, but the "
                f"model takes {spec.datatype}."
            )
        shape = check_shape(spec, one.get("shape"))
        size = _parameters(one).get("binary_data_size")
        if size is None:
            tensors[spec.name] = from_json(spec, shape, one.get("data"))
            continue
        if type(size) is not int or size < 0 or place + size > len(rest) or "data" in one:
            raise wrong(
                f"Input {spec.name!r}: binary_data_size is {shown(size, 40)}, but "
                f"{len(rest) - place} bytes are left."
            )
        tensors[spec.name] = from_binary(spec, shape, rest[place : place + size])
        place += size
    if place != len(rest):
        raise wrong(f"{len(rest) - place} bytes belong to no input.")
    missing = inputs.keys() - tensors.keys()
    if missing:
        raise wrong(f"The model needs input {', '.join(map(repr, sorted(missing)))}, too.")
    return Inference(request_id, tensors, _outputs(document, outputs))


def bytes_of_json(header_length: bytes | None) -> int | None:
    """Return how many bytes of a body are JSON, as its header says; None: it does not, or not as a
    number."""
    is_number = header_length is not None and header_length.isdigit() and len(header_length) < 20
    return int(header_length) if header_length is not None and is_number else None


def _split(body: Body, header_length: bytes | None) -> tuple[Body, memoryview]:
    if header_length is None:
        return body, _NOTHING
    length = bytes_of_json(header_length) or 0
    if not 0 < length <= len(body):
        given = shown(header_length.decode("latin-1"), 40)
        raise wrong(
            f"Inference-Header-Content-Length is {given}, but the body has {len(body)} bytes."
        )
    found = memoryview(body)
    return found[:length], found[length:]


def json_object(text: Body) -> dict[str, Any]:
    """Return the JSON object that a body is.

    Raises
    ------
    Refusal
        It is not JSON, or not an object.
    """
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise wrong(f"The body is not JSON: {error}.") from None
    if not isinstance(found, dict):
        raise wrong("The body must be a JSON object.")
    return found


def _parameters(one: Mapping[str, Any]) -> Mapping[str, Any]:
    found = one.get("parameters")
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise wrong("parameters must be an object.")
    return found


def _named(one: Mapping[str, Any], known: Mapping[str, TensorSpec], what: str) -> TensorSpec:
    name = one.get("name")
    spec = known.get(name) if isinstance(name, str) else None
    if spec is None:
        listed = ", ".join(map(repr, known))
        raise wrong(f"The model has no {what} {shown(name, _MOST_NAME)}; it has {listed}.")
    return spec


def _outputs(
    document: Mapping[str, Any], known: Mapping[str, TensorSpec]
) -> tuple[tuple[TensorSpec, bool], ...]:
    """Return the outputs that are requested: all, unless some are named."""
    binary = _parameters(document).get("binary_data_output", False) is True
    asked = document.get("outputs")
    if not asked and asked in (None, []):
        return tuple((spec, binary) for spec in known.values())
    if not isinstance(asked, list) or not all(isinstance(one, dict) for one in asked):
        raise wrong("outputs must be a list of objects with a name.")
    found = {}
    for one in asked:
        parameters = _parameters(one)
        if parameters.get("classification"):
            raise wrong("This server does not have the classification extension.")
        found[_named(one, known, "output")] = parameters.get("binary_data", binary) is True
    return tuple(found.items())


def answer(
    model: str, version: str, asked: Inference, outputs: Mapping[str, Any]
) -> tuple[bytes, int | None]:
    """Return the body of an answer, and how many bytes of it are JSON if tensors follow, given each
    output by its name."""
    described: list[dict[str, Any]] = []
    binary: list[bytes] = []
    for spec, is_binary in asked.outputs:
        value = outputs[spec.name]
        one: dict[str, Any] = {
            "name": spec.name,
            "datatype": spec.datatype,
            "shape": list(value.shape),
        }
        if is_binary:
            binary.append(to_binary(spec.datatype, value))
            one["parameters"] = {"binary_data_size": len(binary[-1])}
        else:
            one["data"] = to_json(spec.datatype, value)
        described.append(one)
    head: dict[str, Any] = {"model_name": model, "model_version": version, "outputs": described}
    if asked.id is not None:
        head["id"] = asked.id
    text = as_json(head)
    return (b"".join([text, *binary]), len(text)) if binary else (text, None)


def as_json(value: Any) -> bytes:
    """Return a value as JSON; arrays are lists."""
    return bytes(orjson.dumps(value, option=orjson.OPT_SERIALIZE_NUMPY))
