"""Entry scripts here and under Azure ML's own server: clients see the same."""

from __future__ import annotations

import json
import os
import subprocess
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pytest

from hpctf import InferenceConfig, Webservice
from hpctf.serving.client import Client
from tests.support.exported import free_port
from tests.support.waiting import wait_until

TEXT = """
import json, os, time

def init():
    print("init was called", flush=True)

def run(data, request_headers):
    asked = json.loads(data)
    do = asked.get("do")
    if do == "raise":
        raise ValueError("no such thing")
    if do == "sleep":
        time.sleep(600)
    if do == "headers":
        return {name: request_headers[name] for name in ("X-Mine", "Content-Type")}
    return {"odd": object(), "nothing": None, "nan": float("nan"), "text": "zwölf"}.get(do, asked)
"""

RAW = """
from azureml_inference_server_http.api.aml_request import AMLRequest, rawhttp
from azureml_inference_server_http.api.aml_response import AMLResponse

def init():
    pass

@rawhttp
def run(request):
    if request.method == "GET":
        return AMLResponse(request.full_path.encode(), 200)
    if request.method == "OPTIONS":
        return AMLResponse("", 204, {"Allow": "GET, POST"})
    if request.args["do"] == "file":
        return AMLResponse(request.files["image"].read(), 200, {"Content-Type": "image/png"})
    if request.args["do"] == "json":
        return AMLResponse(request.get_json(), 201, {"X-Mine": "a"}, json_str=True)
    if request.args["do"] == "status":
        return AMLResponse("so", int(request.args["status"]), {"Content-Type": "text/plain"})
    if request.args["do"] == "nothing":
        return AMLResponse(None, 200)
    if request.args["do"] == "value":
        return {"form": request.form.to_dict(), "kind": request.content_type}
    return AMLResponse(request.get_data(False), 200)
"""

SCHEMA = """
import numpy as np
from inference_schema.schema_decorators import input_schema, output_schema
from inference_schema.parameter_types.numpy_parameter_type import NumpyParameterType
from inference_schema.parameter_types.standard_py_parameter_type import StandardPythonParameterType

def init():
    pass

@input_schema("data", NumpyParameterType(np.array([[1.0, 2.0]])))
@input_schema("times", StandardPythonParameterType(3))
@output_schema(NumpyParameterType(np.array([[1.0]])))
def run(data, times=2):
    return (data * times).tolist()
"""

SCRIPTS = {"text": TEXT, "raw": RAW, "schema": SCHEMA}
TIMEOUT_S = 1.0


class Seen(NamedTuple):
    """What a client sees of an answer."""

    status: int
    headers: dict[str, str]
    body: bytes


NOT_COMPARED = {"date", "server", "connection", "content-length", "x-ms-server-version"}
MADE_ANEW = {"x-request-id", "x-ms-request-id", "x-ms-run-fn-exec-ms"}


def seen(status: int, headers: list[tuple[str, str]], body: bytes, ids: bool) -> Seen:
    """Return an answer without what is different each time."""
    found: dict[str, str] = {}
    for name, value in headers:
        name = name.lower()
        if name not in NOT_COMPARED:
            anew = name in MADE_ANEW and not (ids and name != "x-ms-run-fn-exec-ms")
            value = "" if anew else value
            found[name] = f"{found[name]}, {value}" if name in found else value
    return Seen(status, found, body)


class Call(NamedTuple):
    """A request, and the script that it goes to."""

    script: str
    body: bytes | None = None
    query: str = ""
    method: str = "POST"
    headers: Mapping[str, str] = MappingProxyType({})
    kind: str = "application/json"

    def all_headers(self) -> dict[str, str]:
        return {**({} if self.body is None else {"content-type": self.kind}), **self.headers}


@pytest.fixture(scope="module")
def theirs(
    clients_python: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[Call], Seen]]:
    """Asks Azure ML's own server."""
    ports: dict[str, int] = {}
    started = []
    for name, script in SCRIPTS.items():
        folder = tmp_path_factory.mktemp(f"azure-{name}")
        (folder / "score.py").write_text(script)
        ports[name] = free_port()
        command = [str(Path(clients_python).with_name("azmlinfsrv")), "--entry_script", "score.py"]
        with (folder / "log").open("wb") as log:
            made = subprocess.Popen(
                [*command, "--port", str(ports[name])],
                cwd=folder,
                env={**os.environ, "SCORING_TIMEOUT_MS": str(int(TIMEOUT_S * 1000))},
                stdout=log,
                stderr=log,
            )
        started.append(made)

    def call(one: Call) -> Seen:
        uri = f"http://127.0.0.1:{ports[one.script]}/score{one.query}"
        asked = urllib.request.Request(uri, one.body, one.all_headers(), method=one.method)
        try:
            answer = urllib.request.urlopen(asked)
        except urllib.error.HTTPError as error:
            answer = error
        with answer:
            has_ids = "x-request-id" in one.headers
            return seen(answer.status, answer.headers.items(), answer.read(), has_ids)

    def answers(name: str) -> bool:
        try:
            urllib.request.urlopen(f"http://127.0.0.1:{ports[name]}/").close()
        except OSError:
            return False
        return True

    for name in ports:
        wait_until(partial(answers, name))
    yield call
    for made in started:
        made.terminate()
        made.wait()


@pytest.fixture(scope="module")
def ours(
    deployed: Callable[..., Webservice],
    clients_python: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Callable[[Call], Seen]:
    """Asks services of the same scripts; inference-schema is in the clients' environment."""
    services = {}
    for name, script in SCRIPTS.items():
        folder = tmp_path_factory.mktemp(f"ours-{name}")
        (folder / "score.py").write_text(script)
        python = clients_python if name == "schema" else None
        config = InferenceConfig("score.py", folder, python, timeout_s=TIMEOUT_S)
        services[name] = deployed(f"azure-{name}", (), config)

    def call(one: Call) -> Seen:
        client = Client(services[one.script].folder)
        answer = client.call(one.method, f"/score{one.query}", one.body, one.all_headers())
        client.close()
        pairs = [(name, value) for name, value in answer.headers.items()]
        return seen(answer.status, pairs, answer.body, "x-request-id" in one.headers)

    return call


FORM = b'--x\r\ncontent-disposition: form-data; name="image"; filename="a"\r\n\r\nPNG\r\n--x--\r\n'
BYTES = "application/octet-stream"
IDS = {"x-request-id": "one", "x-ms-client-request-id": "two"}
OLDER = {"x-request-id": "one", "x-ms-request-id": "old"}
LONG = {"x-request-id": "a" * 101}
LONG_CLIENT = {"x-request-id": "one", "x-ms-client-request-id": "a" * 101}

CALLS = {
    "a value": Call("text", b'{"a": [1, 2.5]}'),
    "none": Call("text", b'{"do": "nothing"}'),
    "no number": Call("text", b'{"do": "nan"}'),
    "a text": Call("text", b'{"do": "text"}'),
    "what is no JSON": Call("text", b'{"do": "odd"}'),
    "an exception": Call("text", b'{"do": "raise"}'),
    "a body that is no JSON": Call("text", b"no json"),
    "an empty body": Call("text", b""),
    "bytes": Call("text", b"\xff\xfe"),
    "any kind of body": Call("text", b'{"a": 1}', kind=BYTES),
    "headers": Call("text", b'{"do": "headers"}', headers={"x-mine": "a"}),
    "a query": Call("text", method="GET", query="?a=1&b=[1,2]&c=x&a=2&d=null&e"),
    "nothing": Call("text", method="GET"),
    "options": Call("text", method="OPTIONS"),
    "a head": Call("text", method="HEAD"),
    "ids": Call("text", b"{}", headers=IDS),
    "an older id": Call("text", b"{}", headers=OLDER),
    "a long id": Call("text", b"{}", headers=LONG),
    "a client's long id": Call("text", b"{}", headers=LONG_CLIENT),
    "a raw query": Call("raw", method="GET", query="?x=1&y=%20z"),
    "raw options": Call("raw", method="OPTIONS"),
    "a raw head": Call("raw", method="HEAD"),
    "raw bytes": Call("raw", b"\x00\xff", "?do=bytes", kind=BYTES),
    "a file": Call("raw", FORM, "?do=file", kind="multipart/form-data; boundary=x"),
    "a form": Call("raw", b"a=1", "?do=value", kind="application/x-www-form-urlencoded"),
    "raw JSON": Call("raw", b'{"a": 1}', "?do=json"),
    "raw text that is no JSON": Call("raw", b"{", "?do=json"),
    "a raw value": Call("raw", b"{}", "?do=value"),
    "raw nothing": Call("raw", b"{}", "?do=nothing"),
    **{f"status {s}": Call("raw", b"", f"?do=status&status={s}") for s in (200, 404, 422, 503)},
    "a missing parameter": Call("raw", b""),
    "a schema": Call("schema", b'{"data": [[1, 2]], "times": 4, "more": 0}'),
    "a schema's default": Call("schema", b'{"data": [[1, 2]]}'),
    "a schema's missing value": Call("schema", b'{"times": 4}'),
    "a schema's wrong value": Call("schema", b'{"data": "a"}'),
    "a schema's list": Call("schema", b"[1]"),
    "a schema's text": Call("schema", b"x"),
    "a schema's nothing": Call("schema", b""),
    "a schema's kind": Call("schema", b'{"data": [[1, 2]]}', kind=BYTES),
    "a schema's query": Call("schema", method="GET", query="?data=[[1,2]]&times=5"),
}


@pytest.mark.parametrize("name", CALLS)
def test_clients_see_the_same(
    name: str, ours: Callable[[Call], Seen], theirs: Callable[[Call], Seen]
) -> None:
    assert ours(CALLS[name]) == theirs(CALLS[name])


def test_a_script_that_takes_too_long_is_answered_in_the_same_words(
    ours: Callable[[Call], Seen], theirs: Callable[[Call], Seen]
) -> None:
    call = Call("text", b'{"do": "sleep"}')
    found = ours(call)
    assert found == theirs(call)
    assert json.loads(found.body) == {"message": "Scoring timeout after 1000 ms"}
