"""The Open Inference Protocol: what is asked is answered, and what is wrong is said."""

from __future__ import annotations

import json
import struct
import subprocess
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

from hpctf import Webservice
from hpctf.errors import ServiceError
from hpctf.serving.client import Answer, Client
from tests.serving.conftest import MODELS
from tests.support.onnx_models import CLASSES, UNITS, weights

HEADER = "Inference-Header-Content-Length"


@pytest.fixture(scope="module")
def client(service: Webservice) -> Client:
    return Client(service.folder)


def rows(number: int, seed: int = 1) -> Any:
    return np.random.default_rng(seed).normal(size=(number, UNITS)).astype(np.float32)


def of_digits(data: Any, shape: Any = (1, UNITS), **changes: Any) -> dict[str, Any]:
    tensor = {"name": "x", "datatype": "FP32", "shape": shape, "data": data, **changes}
    return {"inputs": [{key: value for key, value in tensor.items() if value is not None}]}


def infer(client: Client, model: str, body: Any, binary: bytes = b"") -> Answer:
    text = body if isinstance(body, bytes) else json.dumps(body).encode()
    headers = {HEADER: str(len(text))} if binary else {}
    return client.call("POST", f"/v2/models/{model}/infer", text + binary, headers)


def outputs(answer: Answer) -> dict[str, Any]:
    assert answer.status == 200, answer.body
    return {one["name"]: one for one in json.loads(answer.body)["outputs"]}


def test_metadata_and_health_are_the_protocols(client: Client) -> None:
    assert json.loads(client.call("GET", "/v2").body)["extensions"] == ["binary_tensor_data"]
    about = json.loads(client.call("GET", "/v2/models/digits/versions/1").body)
    assert about["inputs"] == [{"name": "x", "datatype": "FP32", "shape": [-1, UNITS]}]
    assert (about["name"], about["versions"]) == ("digits", ["1"])
    for path in ("/", "/v2/health/live", "/v2/health/ready"):
        assert client.call("GET", path, headers={"authorization": ""}).status == 200
    for model in MODELS:
        assert client.call("GET", f"/v2/models/{model}/ready").status == 200


@pytest.mark.parametrize("nested", [False, True])
def test_numbers_in_json_give_what_the_model_gives(client: Client, nested: bool) -> None:
    given = rows(3)
    data = given.tolist() if nested else given.ravel().tolist()
    answer = infer(client, "digits", {**of_digits(data, [3, UNITS]), "id": "mine"})
    found = outputs(answer)["y"]
    assert json.loads(answer.body)["id"] == "mine"
    assert found["shape"] == [3, CLASSES]
    np.testing.assert_allclose(
        np.reshape(found["data"], (3, CLASSES)), given @ weights(), rtol=1e-4, atol=1e-5
    )


def test_binary_in_and_out_is_exact_and_may_be_mixed_with_json(client: Client) -> None:
    given = rows(2)
    size = {"binary_data_size": given.nbytes}
    body = of_digits(None, [2, UNITS], parameters=size)
    answer = infer(
        client, "digits", {**body, "parameters": {"binary_data_output": True}}, given.tobytes()
    )
    head = int(answer.headers[HEADER.lower()])
    binary = np.frombuffer(answer.body[head:], np.float32).reshape(2, CLASSES)
    in_json = outputs(infer(client, "digits", body, given.tobytes()))["y"]["data"]
    np.testing.assert_array_equal(binary.ravel(), np.array(in_json, np.float32))
    wanted = {"outputs": [{"name": "y", "parameters": {"binary_data": True}}]}
    assert infer(client, "digits", {**body, **wanted}, given.tobytes()).body == answer.body


def test_texts_halves_and_several_inputs_go_both_ways(client: Client) -> None:
    texts = ["", "zwölf", "x" * 300]
    whole = {"name": "whole", "datatype": "INT32", "shape": [3, 2], "data": [1, 2, 3, 4, 5, -6]}
    given = {"name": "texts", "datatype": "BYTES", "shape": [3], "data": texts}
    found = outputs(infer(client, "several", {"inputs": [given, whole]}))
    assert (found["again"]["data"], found["halves"]["datatype"]) == (texts, "FP16")
    assert found["halves"]["data"] == whole["data"]

    packed = b"".join(struct.pack("<I", len(t.encode())) + t.encode() for t in texts)
    del given["data"]
    given["parameters"] = {"binary_data_size": len(packed)}
    only = [{"name": "again", "parameters": {"binary_data": True}}]
    answer = infer(client, "several", {"inputs": [given, whole], "outputs": only}, packed)
    assert answer.body[int(answer.headers[HEADER.lower()]) :] == packed


def nested(depth: int) -> Any:
    return [nested(depth - 1)] if depth else 1.0


LONG = [1.0] * UNITS
WRONG: list[tuple[Any, str]] = [
    (b"", "is not JSON"),
    (b"\xff\x00", "is not JSON"),
    (b"[" * 100_000, "is not JSON"),
    (b'{"inputs": ' + b"[" * 2000 + b"]" * 2000 + b"}", "is not JSON"),
    (b'{"inputs": NaN}', "is not JSON"),
    (b'{"inputs": Infinity}', "is not JSON"),
    (b'{"a": "\xff"}', "is not JSON"),
    (b'{"a": "\\ud800"}', "is not JSON"),
    ([], "must be a JSON object"),
    ({}, "inputs must be a list"),
    ({"inputs": [1]}, "inputs must be a list"),
    ({"inputs": []}, "needs input 'x', too"),
    ({**of_digits(LONG), "id": 5}, "id must be a text"),
    (of_digits(LONG, name="z"), "no input 'z'; it has 'x'"),
    (of_digits(LONG, name=["x"]), "no input"),
    ({"inputs": of_digits(LONG)["inputs"] * 2}, "given twice"),
    (of_digits(LONG, datatype="FP64"), "the model takes FP32"),
    (of_digits(LONG, datatype={}), "the model takes FP32"),
    (of_digits(LONG, [1, 63]), "the model takes [-1, 64]"),
    (of_digits(LONG, [UNITS]), "has 1 dimensions"),
    (of_digits(LONG, [1] * 10_000), "has 10000 dimensions"),
    (of_digits(LONG, [0, UNITS]), "list of whole numbers"),
    (of_digits(LONG, [-1, UNITS]), "list of whole numbers"),
    (of_digits(LONG, [True, UNITS]), "list of whole numbers"),
    (of_digits(LONG, [1.0, UNITS]), "list of whole numbers"),
    (of_digits(LONG, "1"), "list of whole numbers"),
    (of_digits(LONG, [2**62, UNITS]), f"64 values, but shape [{2**62}, 64]"),
    (of_digits(LONG, [2**63, 2]), "the model takes [-1, 64]"),
    (of_digits(LONG, [10**30, UNITS]), "list of whole numbers"),
    (of_digits(None), "data is None"),
    (of_digits("1"), "data is '1'"),
    (of_digits(LONG[1:]), "63 values"),
    (of_digits(["1"] * UNITS), "must all be numbers"),
    (of_digits([*LONG[1:], "x" * 100_000]), "must all be numbers"),
    (of_digits([*LONG[1:], None]), "must all be numbers"),
    (of_digits([*LONG[1:], True]), "must all be numbers"),
    (of_digits([LONG, [1.0]]), "nested unequally"),
    (of_digits(nested(40)), "nested unequally or too deeply"),
    (of_digits([*LONG[1:], 10**400]), "is not JSON"),
    (of_digits([*LONG[1:], [1.0]]), "must all be numbers"),
    (of_digits(LONG, parameters=[1]), "parameters must be an object"),
    (of_digits(None, parameters={"binary_data_size": -1}), "0 bytes are left"),
    (of_digits(None, parameters={"binary_data_size": 256}), "0 bytes are left"),
    ({**of_digits(LONG), "outputs": [{"name": "z"}]}, "no output 'z'"),
    ({**of_digits(LONG), "outputs": "y"}, "outputs must be a list"),
    (
        {**of_digits(LONG), "outputs": [{"name": "y", "parameters": {"classification": 3}}]},
        "classification",
    ),
]


@pytest.mark.parametrize(("body", "words"), WRONG, ids=[words for _, words in WRONG])
def test_a_wrong_request_is_told_what_is_wrong(client: Client, body: Any, words: str) -> None:
    answer = infer(client, "digits", body)
    assert answer.status == 400
    assert words in json.loads(answer.body)["error"]


@pytest.mark.parametrize(
    ("length", "size", "words"),
    [
        ("9999", 256, "but the body has"),
        ("-1", 256, "but the body has"),
        ("0", 256, "but the body has"),
        ("x", 256, "but the body has"),
        (None, 255, "takes 256 bytes"),
        (None, 257, "but 256 bytes are left"),
        (None, 10**30, "but 256 bytes are left"),
        (None, "256", "but 256 bytes are left"),
        (None, 0, "takes 256 bytes"),
        ("9" * 5000, 256, "but the body has"),
        ("\u00b2", 256, "but the body has"),
    ],
)
def test_binary_data_of_another_length_is_refused(
    client: Client, length: str | None, size: Any, words: str
) -> None:
    text = json.dumps(of_digits(None, parameters={"binary_data_size": size})).encode()
    headers = {HEADER: str(len(text)) if length is None else length}
    answer = client.call("POST", "/v2/models/digits/infer", text + bytes(256), headers)
    assert (answer.status, words in json.loads(answer.body)["error"]) == (400, True), answer.body


@pytest.mark.parametrize(
    ("packed", "words"),
    [
        (b"\xff\xff\xff\xffab", "cut short"),
        (b"\x03\0\0\0ab", "cut short"),
        (b"\x01\0\0", "cut short"),
        (b"\x02\0\0\0ab", "1 elements, but its shape has 2"),
        (b"\0\0\0\0" * 3, "3 elements, but its shape has 2"),
        (b"\x01\0\0\0\xff" * 2, "element 0 is not UTF-8"),
    ],
)
def test_texts_of_other_lengths_than_they_say_are_refused(
    client: Client, packed: bytes, words: str
) -> None:
    texts = {"name": "texts", "datatype": "BYTES", "shape": [2]}
    texts["parameters"] = {"binary_data_size": len(packed)}
    answer = infer(client, "several", {"inputs": [texts]}, packed)
    assert (answer.status, words in json.loads(answer.body)["error"]) == (400, True), answer.body


@pytest.mark.parametrize("value", [2**31, -(2**31) - 1, 2**64, 10**30, 1.5, 1e400])
def test_numbers_that_the_type_does_not_have_are_refused(client: Client, value: Any) -> None:
    number = b"1e400" if value == 1e400 else json.dumps(value).encode()
    tensor = b'{"name": "whole", "datatype": "INT32", "shape": [1, 2], "data": [1, %b]}'
    assert infer(client, "several", b'{"inputs": [%b]}' % (tensor % number)).status == 400


def test_a_number_too_large_for_a_float_is_infinite_and_answered_as_null(client: Client) -> None:
    found = outputs(infer(client, "digits", of_digits([1e300] * UNITS)))["y"]["data"]
    assert set(found) == {None}


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/v2/models/nobody", 404),
        ("/v2/models/digits/versions/9/ready", 404),
        ("/v2/models/..%2f..%2fetc/infer", 404),
        ("/nothing", 404),
        ("/v2/models/digits/infer", 405),
    ],
)
def test_what_is_not_there_is_said_in_json(client: Client, path: str, status: int) -> None:
    answer = client.call("GET", path)
    assert (answer.status, "error" in json.loads(answer.body)) == (status, True)


def test_requests_that_come_together_run_together_and_each_gets_its_own_rows(
    service: Webservice,
) -> None:
    def call(number: int) -> None:
        mine = Client(service.folder)
        for turn in range(10):
            given = rows(1 + number % 3, seed=100 * number + turn)
            body = of_digits(given.ravel().tolist(), list(given.shape))
            found = np.reshape(outputs(infer(mine, "digits", body))["y"]["data"], (-1, CLASSES))
            np.testing.assert_allclose(found, given @ weights(), rtol=1e-4, atol=1e-5)
        mine.close()

    with ThreadPoolExecutor(16) as clients:
        list(clients.map(call, range(16)))


def test_one_whose_numbers_fail_harms_nobody_that_runs_with_it(service: Webservice) -> None:
    def call(number: int) -> tuple[int, int]:
        mine = Client(service.folder)
        tensor = {"name": "number", "datatype": "INT64", "shape": [1], "data": [number]}
        answer = infer(mine, "picks", {"inputs": [tensor]})
        mine.close()
        if answer.status == 200:
            assert outputs(answer)["value"]["data"] == [number]
        return number, answer.status

    numbers = [3, 99] * 12
    with ThreadPoolExecutor(len(numbers)) as clients:
        assert set(clients.map(call, numbers)) == {(3, 200), (99, 400)}


def test_rows_that_depend_on_each_other_never_run_with_those_of_others(
    service: Webservice,
) -> None:
    def call(number: int) -> list[float]:
        mine = Client(service.folder)
        data = [float(number), 0.0, float(number + 2), 0.0]
        tensor = {"name": "x", "datatype": "FP32", "shape": [2, 2], "data": data}
        found: list[float] = outputs(infer(mine, "centred", {"inputs": [tensor]}))["y"]["data"]
        mine.close()
        return found

    with ThreadPoolExecutor(16) as clients:
        assert list(clients.map(call, range(16))) == [[-1.0, 0.0, 1.0, 0.0]] * 16


def test_a_long_request_does_not_keep_short_ones_waiting(service: Webservice) -> None:
    """JSON of 3 MB is read in a thread."""
    mine = Client(service.folder)
    image = {"name": "x", "datatype": "FP32", "shape": [1, 3, 224, 224]}
    found = outputs(infer(mine, "images", {"inputs": [{**image, "data": [0.5] * (3 * 224 * 224)}]}))
    assert found["y"]["data"] == [0.5, 0.5, 0.5]


def test_score_needs_a_single_model(service: Webservice) -> None:
    with pytest.raises(ServiceError, match="answered 400: Name one of the models"):
        service.run({"data": []})


def test_metrics_count_what_was_asked_and_the_page_describes_it(service: Webservice) -> None:
    text = service.call("GET", "/metrics").body.decode()
    assert 'hpctf_requests_total{kind="infer",status="200"}' in text
    assert 'status="500"' not in text
    page = json.loads(service.call("GET", "/swagger.json").body)
    assert page["openapi"].startswith("3.")
    assert "/v2/models/digits/infer" in page["paths"]


TRITON = """
import sys
import numpy as np
import tritonclient.http as http
import gevent.ssl
from tritonclient.utils import InferenceServerException

host, certificate, token = sys.argv[1:]
client = http.InferenceServerClient(
    host, ssl=True, ssl_options={"ca_certs": certificate, "cert_reqs": gevent.ssl.CERT_REQUIRED},
    ssl_context_factory=None,
)
def headers():  # infer() keeps the length of one request's JSON in what it is given
    return {"authorization": f"Bearer {token}"}
assert client.is_server_live() and client.is_server_ready()
assert client.is_model_ready("several", headers=headers())
assert client.get_model_metadata("digits", headers=headers())["platform"] == "onnxruntime_onnx"
whole = np.array([[1, 2], [3, -4]], np.int32)
texts = np.array(["ja", "nein"], dtype=object)
for binary in (True, False):
    inputs = [http.InferInput("whole", [2, 2], "INT32"), http.InferInput("texts", [2], "BYTES")]
    inputs[0].set_data_from_numpy(whole, binary_data=binary)
    inputs[1].set_data_from_numpy(texts, binary_data=binary)
    outputs = [http.InferRequestedOutput(name, binary_data=binary) for name in ("halves", "again")]
    found = client.infer("several", inputs, outputs=outputs, headers=headers(), request_id="7")
    assert found.get_response()["id"] == "7"
    assert (found.as_numpy("halves") == whole).all()
    again = [str(one, "utf-8") if binary else one for one in found.as_numpy("again")]
    assert again == ["ja", "nein"]
x = http.InferInput("x", [1, 64], "FP32")
x.set_data_from_numpy(np.ones((1, 64), np.float32))
assert client.infer("digits", [x], headers=headers()).as_numpy("y").shape == (1, 10)
try:
    client.infer("digits", inputs[:1], headers=headers())
except InferenceServerException as error:
    assert "no input 'whole'" in str(error), error
print("all is well")
"""


def test_tritons_own_client_gets_its_answers(service: Webservice, clients_python: str) -> None:
    details = service.get_details()
    host = details["uri"].removeprefix("https://")
    words = [host, details["certificate"], service.get_keys()[0]]
    done = subprocess.run(
        [clients_python, "-c", TRITON, *words], capture_output=True, text=True, check=False
    )
    assert done.stdout == "all is well\n", done.stderr
