"""TensorBoard's event files as bytes, made by hand: what needs no TensorFlow to be read right."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest

from hpctf.tracking.tensorboard_events import points_of


def varint(number: int) -> bytes:
    number &= (1 << 64) - 1  # as protobuf writes negative numbers
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def event(step: int, tag: bytes, value: bytes) -> bytes:
    summary = field(1, field(1, tag) + value)
    body = b"\x09" + struct.pack("<d", 1.0) + b"\x10" + varint(step) + field(5, summary)
    return struct.pack("<QI", len(body), 0) + body + bytes(4)


FLOAT = b"\x15" + struct.pack("<f", 0.5)


@pytest.mark.parametrize("step", [0, 1, -1, 2**31, -(2**31), 2**63 - 1, -(2**63)])
def test_steps_have_a_sign(tmp_path: Path, step: int) -> None:
    path = tmp_path / "events.out.tfevents.1.n1"
    path.write_bytes(event(step, b"loss", FLOAT))
    (point,) = points_of(str(path))
    assert (point.step, point.tag, point.value) == (step, "loss", 0.5)


@pytest.mark.parametrize("kind", [3, 9])
@pytest.mark.parametrize("value", [7, -7])
def test_whole_numbers_have_a_sign(tmp_path: Path, kind: int, value: int) -> None:
    place = {3: 7, 9: 10}[kind]
    tensor = b"\x08" + varint(kind) + varint(place << 3) + varint(value)
    path = tmp_path / "events.out.tfevents.1.n1"
    path.write_bytes(event(1, b"count", field(8, tensor)))
    assert [point.value for point in points_of(str(path))] == [value]


def test_a_tag_that_is_not_utf_8_costs_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "events.out.tfevents.1.n1"
    path.write_bytes(event(1, b"caf\xe9", FLOAT) + event(2, b"loss", FLOAT))
    assert [point.tag for point in points_of(str(path))] == ["caf\\xe9", "loss"]
