"""Clients that send too much, too slowly, or nonsense: nobody else is harmed."""

from __future__ import annotations

import json
import os
import socket
import ssl
import statistics
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from hpctf import Webservice
from hpctf.serving.client import Client
from tests.serving.wire import answer, connection, head
from tests.support.onnx_models import UNITS
from tests.support.waiting import HANGS_S, wait_until

BODY = json.dumps({"data": [[0.5] * UNITS]}).encode()
MOST = 100_000
READ_S = 2.0


@pytest.fixture(scope="module")
def service(deployed: Callable[..., Webservice]) -> Webservice:
    """One with little of everything."""
    limits = {"body_bytes": MOST, "memory_bytes": 4 * MOST, "read_s": READ_S, "connections": 64}
    return deployed("hostile", ("digits",), limits={**limits, "write_s": 2.0})


@pytest.fixture(autouse=True)
def nobody_else_is_harmed(service: Webservice) -> Iterator[None]:
    """After each attack the service answers, by the same process, and never with a 500."""
    before = service.get_details()["pid"]
    yield
    assert service.run(BODY)["result"]
    assert (service.get_details()["pid"], service.state) == (before, "ready")
    wait_until(lambda: is_at_rest(service))
    assert "Traceback" not in service.get_logs()


def is_at_rest(service: Webservice) -> bool:
    """Whether nothing is kept for the attackers; the connection that asks is the one that waits."""
    text = service.call("GET", "/metrics").body.decode()
    assert 'status="500"' not in text
    return {"hpctf_connections_waiting 1.0", "hpctf_request_bytes 0.0"} <= set(text.splitlines())


HALF = b'{"data": [[0.5, 0.5'


@pytest.mark.parametrize("token", [True, False])
def test_a_half_sent_body_ends_in_time(service: Webservice, token: bool) -> None:
    with connection(service) as wire:
        wire.sendall(head(service, "content-length: 1000", token=token) + HALF)
        began = time.monotonic()
        assert answer(wire)[0] == (408 if token else 401)
        assert time.monotonic() - began >= READ_S - 0.1


def test_half_sent_headers_and_silence_end_in_time(service: Webservice) -> None:
    with connection(service) as wire, connection(service) as silent, connection(service) as drip:
        wire.sendall(head(service, "content-length: 10")[:-2])
        for _ in range(6):  # a byte now and then does not put it off
            time.sleep(READ_S / 5)
            with suppress(ConnectionError, ssl.SSLError):
                drip.sendall(b"a")
        assert {answer(one)[0] for one in (wire, silent)} == {408}
        assert answer(drip)[0] in (400, 408)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        ([f"content-length: {MOST + 1}"], b"", 413),
        (["content-length: 99999999999999999999999"], b"", 400),
        (["content-length: -1"], b"", 400),
        (["content-length: 5", "content-length: 6"], b"12345", 400),
        (["content-length: 5", "transfer-encoding: chunked"], b"0\r\n\r\n", 400),
        (["transfer-encoding: chunked"], b"ffffffff\r\n" + b"x" * (MOST + 1), 413),
        (["transfer-encoding: chunked"], b"zz\r\n", 400),
        (["transfer-encoding: chunked"], b"10000000000000005\r\n12345\r\n0\r\n\r\n", 400),
        (["transfer-encoding: chunked"], b"0\r\n" + b"x: y\r\n" * 40_000 + b"\r\n", 431),
        (["transfer-encoding: chunked", "transfer-encoding: chunked"], b"0\r\n\r\n", 400),
        (["transfer-encoding: gzip, chunked"], b"0\r\n\r\n", 400),
        (["transfer-encoding: xchunked"], b"0\r\n\r\n", 400),
        (["content-length: 5", "transfer-encoding: identity"], b"12345", 400),
        (["content-length: 5, 5"], b"12345", 400),
        (["content-length: +5"], b"12345", 400),
        (["content-length: 0x5"], b"12345", 400),
        (["content-length : 5"], b"12345", 400),
        (["x: a\n b: c"], b"", 400),
        (["x: \0"], b"", 400),
        ([f"content-length: {len(BODY)}", "content-encoding: gzip"], BODY, 415),
        (["x: " + "x" * 100_000], b"", 431),
        ([f"x-{number}: 1" for number in range(20_000)], b"", 431),
        (["connection: upgrade", "upgrade: websocket", "content-length: 0"], b"", 400),
    ],
)
def test_what_is_too_much_or_not_http_is_refused(
    service: Webservice, headers: list[str], body: bytes, status: int
) -> None:
    sent = head(service, *headers, "connection: close") + body
    with connection(service) as wire:
        with suppress(ConnectionError, ssl.SSLError):  # what is long is refused while it is sent
            wire.sendall(sent)
        found, said = answer(wire)
        assert found == status or (not found and len(sent) > MOST // 2), said


@pytest.mark.parametrize(
    "line",
    [b"\x16\x03\x01\x02", b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET \xff HTTP/1.1\r\n\r\n"],
)
def test_nonsense_is_not_http(service: Webservice, line: bytes) -> None:
    with connection(service) as wire:
        wire.sendall(line + b"\r\n\r\n")
        assert answer(wire)[0] == 400


@pytest.mark.parametrize(
    ("line", "status"),
    [
        ("CONNECT here:443 HTTP/1.1", 400),
        ("OPTIONS * HTTP/1.1", 404),
        ("PRI * HTTP/2.0", 400),
        ("GET http://elsewhere/v2 HTTP/1.1", 200),
        ("GET //v2 HTTP/1.1", 404),
        ("GET /%00 HTTP/1.1", 404),
        ("GET /v2?%00&a=%ff&a HTTP/1.1", 200),
        ("GET /v2/models/%ff%2e%2e%0d%0a/ready HTTP/1.1", 404),
        ("DELETE /v2/models/digits/infer HTTP/1.1", 405),
        ("HEAD /score HTTP/1.1", 405),
        ("GET /" + "a" * 60_000 + " HTTP/1.1", 404),
    ],
)
def test_odd_requests_of_clients_are_answered(service: Webservice, line: str, status: int) -> None:
    asked = head(service, "connection: close").partition(b"\r\n")[2]
    with connection(service) as wire:
        wire.sendall(line.encode() + b"\r\n" + asked)
        found, said = answer(wire)
    assert found == status, said[:300]


def test_what_is_not_tls_gets_nothing(service: Webservice) -> None:
    where = urlsplit(service.uri)
    with socket.create_connection((where.hostname or "", where.port or 0)) as wire:
        wire.settimeout(HANGS_S)
        wire.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert b"HTTP" not in wire.recv(1000)


def test_a_stranger_who_sends_much_is_not_read(service: Webservice) -> None:
    with connection(service) as wire:
        with suppress(ConnectionError, ssl.SSLError):
            wire.sendall(head(service, "content-length: 99999999", token=False) + bytes(1 << 20))
        assert answer(wire)[0] in (401, 0)


def test_many_large_bodies_at_once_share_the_memory_that_there_is(service: Webservice) -> None:
    with ExitStack() as stack:
        wires = [stack.enter_context(connection(service)) for _ in range(8)]
        for wire in wires:
            wire.sendall(head(service, f"content-length: {MOST}"))
        statuses = [answer(wire)[0] for wire in reversed(wires)]
    assert set(statuses) == {408, 503}
    assert statuses.count(408) <= 4


def test_strangers_give_way_to_clients_where_there_are_too_many(service: Webservice) -> None:
    mine = Client(service.folder)
    assert mine.call("POST", "/score", BODY).status == 200
    first = mine._connection
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(connection(service))
        assert mine.call("POST", "/score", BODY).status == 200
        assert mine._connection is first, "a connection with a token is the last to go"


def test_a_client_that_reads_no_answers_is_left(service: Webservice) -> None:
    asked = head(service, path="/swagger.json", method="GET")

    def has_ended() -> bool:
        with suppress(TimeoutError):  # the server reads no more until it has been read
            try:
                wire.sendall(asked * 100)
            except (ConnectionError, ssl.SSLError):
                return True
        return False

    with connection(service) as wire:
        wire.settimeout(0.1)
        wait_until(has_ended)


def test_strangers_who_finish_what_was_refused_give_way_too(service: Webservice) -> None:
    with ExitStack() as stack:
        for _ in range(64):
            wire = stack.enter_context(connection(service))
            wire.sendall(head(service, "content-length: 5", token=False))
            assert wire.recv(1000).startswith(b"HTTP/1.1 401")
            wire.sendall(b"12345")
        assert Client(service.folder).call("POST", "/score", BODY).status == 200


def test_clients_who_leave_give_back_the_memory_of_what_they_sent(service: Webservice) -> None:
    for _ in range(20):
        with connection(service) as wire:
            wire.sendall(head(service, f"content-length: {MOST}") + bytes(MOST - 1))
    padded = BODY[:-1] + b" " * (MOST - len(BODY)) + b"}"
    wait_until(lambda: Client(service.folder).call("POST", "/score", padded).status == 200)


def test_200_slow_clients_keep_nobody_waiting(deployed: Callable[..., Webservice]) -> None:
    """They send their bodies byte by byte. docs/models.md has what benchmarks measured; a test on a
    loaded machine can only tell that nobody waits for them."""
    service = deployed("slow", ("digits",), limits={"read_s": 60.0})
    mine = Client(service.folder)

    def seconds() -> float:
        taken = []
        for _ in range(100):
            began = time.perf_counter()
            assert mine.call("POST", "/score", BODY).status == 200
            taken.append(time.perf_counter() - began)
        return statistics.median(taken)

    alone = seconds()
    with ExitStack() as stack:
        wires = [stack.enter_context(connection(service)) for _ in range(200)]
        for wire in wires:
            wire.sendall(head(service, f"content-length: {len(BODY)}") + BODY[:-1])
        assert seconds() < max(10 * alone, 0.1)
        for wire in wires[::50]:
            wire.sendall(BODY[-1:])
            assert wire.recv(100).startswith(b"HTTP/1.1 200")


def test_property_based_requests_find_no_500(
    service: Webservice, clients_python: str, tmp_path: Path
) -> None:
    """schemathesis makes requests of all kinds out of the OpenAPI page."""
    page = tmp_path / "page.json"
    page.write_bytes(service.call("GET", "/swagger.json").body)
    words = ["run", str(page), "--url", service.uri, "--tls-verify", "false", "--no-color"]
    words += ["--checks", "not_a_server_error", "--max-examples", "20", "--seed", "1"]
    words += ["--header", f"Authorization: Bearer {service.get_keys()[0]}"]
    words += ["--phases", "examples,coverage,fuzzing"]
    done = subprocess.run(
        [Path(clients_python).with_name("schemathesis"), *words],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
    assert "Tested: 9" in done.stdout, done.stdout[-2000:]
