"""Requests in other pieces than one: what HTTP allows, a service answers."""

from __future__ import annotations

import json

import numpy as np
import pytest

from hpctf import Webservice
from tests.serving.wire import answer, connection, head
from tests.support.onnx_models import CLASSES, UNITS

PATH = "/v2/models/digits/infer"
ROW = {"name": "x", "datatype": "FP32", "shape": [1, UNITS], "data": [0.5] * UNITS}
BODY = json.dumps({"inputs": [ROW]}).encode()
LENGTH = f"content-length: {len(BODY)}"


def ask(service: Webservice, *headers: str) -> bytes:
    return head(service, *headers, path=PATH)


def test_pipelined_requests_are_answered_in_their_order(service: Webservice) -> None:
    about = head(service, path="/v2", method="GET")
    last = ask(service, LENGTH, "connection: close")
    with connection(service) as wire:
        wire.sendall(ask(service, LENGTH) + BODY + about + last + BODY)
        _, said = answer(wire)
    assert said.count(b"HTTP/1.1 200") == 3
    places = [
        said.index(b'"model_name"'),
        said.index(b'"extensions"'),
        said.rindex(b'"model_name"'),
    ]
    assert places == sorted(set(places))


def test_a_body_in_chunks_or_byte_by_byte_is_one_body(service: Webservice) -> None:
    chunks = b"".join(b"%x\r\n%c\r\n" % (1, byte) for byte in BODY) + b"0\r\n\r\n"
    for headers, body in ((["transfer-encoding: chunked"], chunks), ([LENGTH], BODY)):
        with connection(service) as wire:
            wire.sendall(ask(service, *headers, "connection: close"))
            for place in range(0, len(body), 50):
                wire.sendall(body[place : place + 50])
            status, said = answer(wire)
        assert status == 200, said


def test_a_client_that_waits_for_its_body_to_be_wanted_is_told(service: Webservice) -> None:
    with connection(service) as wire:
        wire.sendall(ask(service, LENGTH, "expect: 100-continue", "connection: close"))
        assert wire.recv(100).startswith(b"HTTP/1.1 100 ")
        wire.sendall(BODY)
        assert answer(wire)[0] == 200


def test_a_client_of_http_1_0_gets_one_answer(service: Webservice) -> None:
    with connection(service) as wire:
        wire.sendall(ask(service, LENGTH).replace(b"HTTP/1.1", b"HTTP/1.0") + BODY)
        status, said = answer(wire)
    assert status == 200
    assert b"connection: close" in said


@pytest.mark.parametrize("spaces", [0, 1, 7, 15])
def test_a_large_tensor_is_exact_wherever_its_bytes_begin(service: Webservice, spaces: int) -> None:
    image = np.random.default_rng(0).normal(size=(1, 3, 224, 224)).astype(np.float32)
    tensor = {"name": "x", "datatype": "FP32", "shape": list(image.shape)}
    size = {"binary_data_size": image.nbytes}
    text = json.dumps({"inputs": [{**tensor, "parameters": size}]}).encode() + b" " * spaces
    headers = [f"content-length: {len(text) + image.nbytes}", "connection: close"]
    headers += [f"inference-header-content-length: {len(text)}"]
    with connection(service) as wire:
        wire.sendall(head(service, *headers, path="/v2/models/images/infer"))
        wire.sendall(text + image.tobytes())
        status, said = answer(wire)
    assert status == 200, said
    found = json.loads(said.partition(b"\r\n\r\n")[2])["outputs"][0]["data"]
    np.testing.assert_allclose(found, image.mean(axis=(2, 3)).ravel(), atol=1e-5)


def test_an_answer_has_one_length_one_kind_and_one_date(service: Webservice) -> None:
    with connection(service) as wire:
        wire.sendall(ask(service, LENGTH, "connection: close") + BODY)
        _, said = answer(wire)
    lines = said.partition(b"\r\n\r\n")[0].decode().split("\r\n")
    names = sorted(line.partition(":")[0] for line in lines[1:])
    assert names == ["connection", "content-length", "content-type", "date"]
    assert len(json.loads(said.partition(b"\r\n\r\n")[2])["outputs"][0]["data"]) == CLASSES
