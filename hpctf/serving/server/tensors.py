"""Tensors as the Open Inference Protocol writes them, checked before memory is taken for them."""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from hpctf.errors import shown
from hpctf.serving.server.refusal import wrong

DATATYPES: dict[str, Any] = {
    "BOOL": np.bool_,
    "UINT8": np.uint8,
    "UINT16": np.uint16,
    "UINT32": np.uint32,
    "UINT64": np.uint64,
    "INT8": np.int8,
    "INT16": np.int16,
    "INT32": np.int32,
    "INT64": np.int64,
    "FP16": np.float16,
    "FP32": np.float32,
    "FP64": np.float64,
    "BYTES": np.object_,
}
"""The protocol's types that numpy has, too; BYTES are texts."""

ANY = -1
"""A dimension of a model that a request chooses."""

MOST_DIMENSIONS = 32
_LENGTH = struct.Struct("<I")


@dataclass(frozen=True)
class TensorSpec:
    """An input or output of a model: its name, one of `DATATYPES`, and its shape with `ANY`."""

    name: str
    datatype: str
    shape: tuple[int, ...]

    def as_json(self) -> dict[str, Any]:
        """Return it as the protocol's metadata has it."""
        return {"name": self.name, "datatype": self.datatype, "shape": list(self.shape)}


def check_shape(spec: TensorSpec, shape: Any) -> tuple[int, ...]:
    """Return the shape that a request gives an input, if the model takes it.

    Raises
    ------
    Refusal
        It is not a shape, or another one than the model's.
    """
    where = f"Input {spec.name!r}"
    if not isinstance(shape, list) or not all(type(size) is int and size >= 1 for size in shape):
        raise wrong(f"{where}: shape is {shown(shape, 80)}, but must be a list of whole numbers.")
    if len(shape) != len(spec.shape) or len(shape) > MOST_DIMENSIONS:
        raise wrong(
            f"{where}: shape {shown(shape, 80)} has {len(shape)} dimensions, but the model takes "
            f"{len(spec.shape)}: {list(spec.shape)}."
        )
    for given, wanted in zip(shape, spec.shape, strict=True):
        if wanted not in (ANY, given):
            raise wrong(
                f"{where}: shape is {shown(shape, 80)}, but the model takes {list(spec.shape)}."
            )
    return tuple(shape)


def from_binary(spec: TensorSpec, shape: tuple[int, ...], data: memoryview) -> Any:
    """Return the tensor that the binary extension's bytes are: little-endian, row by row.

    Raises
    ------
    Refusal
        They are too few or too many, or not UTF-8.
    """
    number = math.prod(shape)
    if spec.datatype == "BYTES":
        return np.array(_texts(spec, data, number), dtype=np.object_).reshape(shape)
    dtype = np.dtype(DATATYPES[spec.datatype])
    if number * dtype.itemsize != len(data):
        raise wrong(
            f"Input {spec.name!r}: shape {list(shape)} of {spec.datatype} takes "
            f"{number * dtype.itemsize} bytes, but binary_data_size is {len(data)}."
        )
    if spec.datatype == "BOOL":
        return (np.frombuffer(data, np.uint8) != 0).reshape(shape)
    found = np.frombuffer(data, dtype).reshape(shape)
    return found if found.flags.aligned else found.copy()


def _texts(spec: TensorSpec, data: memoryview, number: int) -> list[str]:
    """Return texts that each have their length before them, in four bytes."""
    found: list[str] = []
    place = 0
    while place < len(data):
        end = place + _LENGTH.size
        size = _LENGTH.unpack(data[place:end])[0] if end <= len(data) else len(data)
        if end + size > len(data):
            raise wrong(f"Input {spec.name!r}: its last element is cut short.")
        try:
            found.append(str(data[end : end + size], "utf-8"))
        except UnicodeDecodeError:
            raise wrong(f"Input {spec.name!r}: element {len(found)} is not UTF-8.") from None
        place = end + size
    if len(found) != number:
        raise wrong(f"Input {spec.name!r}: {len(found)} elements, but its shape has {number}.")
    return found


def to_binary(datatype: str, value: Any) -> bytes:
    """Return a tensor as the binary extension's bytes."""
    if datatype != "BYTES":
        return bytes(np.ascontiguousarray(value).tobytes())
    texts = [str(one).encode() for one in value.ravel()]
    return b"".join(_LENGTH.pack(len(text)) + text for text in texts)


def from_json(spec: TensorSpec, shape: tuple[int, ...], data: Any) -> Any:
    """Return the tensor that a JSON list is, flat or nested.

    Raises
    ------
    Refusal
        It has other values than the input's, or too few or too many.
    """
    if not isinstance(data, list):
        raise wrong(f"Input {spec.name!r}: data is {shown(data, 80)}, but must be a list.")
    found = of_values(spec, data)
    if found.size != math.prod(shape):
        raise wrong(
            f"Input {spec.name!r}: {found.size} values, but shape {list(shape)} has "
            f"{math.prod(shape)}."
        )
    return found.reshape(shape)


def of_values(spec: TensorSpec, values: list[Any]) -> Any:
    """Return the array of JSON's values, of an input's type and the shape that they have.

    Raises
    ------
    Refusal
        Values that the type does not have, or lists of unequal length.
    """
    where = f"Input {spec.name!r}"
    flat, shape = values, [len(values)]
    while flat and type(flat[0]) is list:
        lengths = {len(one) if type(one) is list else ANY for one in flat}
        if len(lengths) > 1 or ANY in lengths or len(shape) == MOST_DIMENSIONS:
            raise wrong(f"{where}: data is nested unequally or too deeply.")
        shape += lengths
        flat = list(chain.from_iterable(flat))

    # Types first: numpy would make an array of texts of numbers that a text stands among, each as
    # long as the longest.
    dtype = np.dtype(DATATYPES[spec.datatype])
    types, words = _VALUES[dtype.kind]
    if not types.issuperset(map(type, flat)):
        raise wrong(f"{where}: its values must all be {words}: {spec.datatype}.")
    try:
        with np.errstate(over="ignore"):
            return np.array(flat, dtype=dtype).reshape(shape)
    except OverflowError:
        limits = np.iinfo(dtype)
        raise wrong(f"{where}: its values must lie in {limits.min}..{limits.max}.") from None


_VALUES: dict[str, tuple[frozenset[type], str]] = {
    "b": (frozenset({bool}), "true or false"),
    "i": (frozenset({int}), "whole numbers"),
    "u": (frozenset({int}), "whole numbers"),
    "f": (frozenset({int, float}), "numbers"),
    "O": (frozenset({str}), "texts"),
}


def to_json(datatype: str, value: Any) -> Any:
    """Return a tensor's values, row by row, as orjson writes them."""
    if datatype == "BYTES":
        return [str(one) for one in value.ravel()]
    return np.ascontiguousarray(value).ravel()
