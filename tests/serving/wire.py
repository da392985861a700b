"""Bare connections to a service, over which anything may be sent."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

from hpctf import Webservice
from tests.support.waiting import HANGS_S


@contextmanager
def connection(service: Webservice) -> Iterator[ssl.SSLSocket]:
    """A bare connection, over which anything may be sent."""
    where = urlsplit(service.uri)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    plain = socket.create_connection((where.hostname or "", where.port or 0), timeout=HANGS_S)
    with context.wrap_socket(plain) as made:
        yield made


def head(
    service: Webservice,
    *headers: str,
    path: str = "/score",
    token: bool = True,
    method: str = "POST",
) -> bytes:
    """Return the head of a request."""
    lines = [f"{method} {path} HTTP/1.1", "host: here", *headers]
    lines += [f"authorization: Bearer {service.get_keys()[0]}"] if token else []
    return "\r\n".join([*lines, "", ""]).encode()


def answer(wire: ssl.SSLSocket) -> tuple[int, bytes]:
    """Read until the server closes, and return the status and all that came; 0 if nothing did."""
    said = b""
    with suppress(ConnectionError, ssl.SSLError):
        while part := wire.recv(65_536):
            said += part
    return int(said.split(b" ", 2)[1]) if said else 0, said
