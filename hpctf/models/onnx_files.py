"""ONNX files: which one of a folder is the model, and the files beside it that hold weights."""

from __future__ import annotations

import mmap
import os
import re
from collections.abc import Mapping
from typing import Any, BinaryIO

_ENDING = ".onnx"
_LOCATION = re.compile(rb"\n\x08location\x12([\x80-\xff]?[\x00-\x7f])")
"""An entry of TensorProto.external_data (onnx.proto): the key ``location``, and how long its value
is, a varint."""


def is_onnx(name: str) -> bool:
    """Return whether a file is called as an ONNX model is."""
    return name.lower().endswith(_ENDING)


def model_in(folder: str, names: Mapping[str, Any]) -> str | None:
    """Return the only ONNX model that lies right in a folder, of the files below it; else None."""
    found = [one for one in names if one.rpartition("/")[0] == folder and is_onnx(one)]
    return found[0] if len(found) == 1 else None


def weight_files(model: BinaryIO) -> list[str]:
    """Return the paths, relative to the model's folder, of the files that hold an ONNX model's
    weights: none, if all are in the model itself."""
    if not os.fstat(model.fileno()).st_size:  # an empty file cannot be mapped
        return []
    found = set()
    with mmap.mmap(model.fileno(), 0, access=mmap.ACCESS_READ) as content:
        for match in _LOCATION.finditer(content):
            length = sum((byte & 0x7F) << 7 * place for place, byte in enumerate(match[1]))
            found.add(os.fsdecode(content[match.end() : match.end() + length]))
    return sorted(found)
