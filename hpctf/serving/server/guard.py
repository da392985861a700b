"""What every request passes: its token is looked at, how it was answered is noted, and the memory
that it took is given back.

What is asked most, running a model, is answered from here: Starlette's routes and middlewares take
longer than a small model does.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect
from starlette.responses import Response

from hpctf.serving.server.app import Result, Service, refused
from hpctf.serving.server.bodies import read_body
from hpctf.serving.server.exchange import EXCHANGE, Exchange
from hpctf.serving.server.protocol import HEADER_LENGTH
from hpctf.serving.server.refusal import Refusal

_OPEN = frozenset({"/", "/v2/health/live", "/v2/health/ready"})
"""What anybody may ask: whether the service runs."""

_LEFT = 499
"""Status of a request whose client left before the answer, as nginx notes it."""

_SMALL = 65_536
"""Bytes of a body that a refused client may still send: its connection stays."""

_JSON, _BINARY = b"application/json", b"application/octet-stream"


class Guard:
    """The ASGI application of a service."""

    def __init__(self, service: Service, app: Starlette) -> None:
        self._service = service
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        service, start = self._service, time.perf_counter()
        headers = dict(scope["headers"])
        state, path = scope.setdefault("state", {}), scope["path"]
        status = _LEFT

        async def note(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if service.is_leaving:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        try:
            state["known"] = self._has_token(scope, headers)
            answering = service.answering.get(path) if scope["method"] == "POST" else None
            if not state["known"] and path not in _OPEN:
                await _not_allowed(headers)(scope, receive, note)
            elif answering is None:
                await self._app(scope, receive, note)
            else:
                body = await read_body(scope, receive, headers, service.limits)
                result = await answering(body, headers.get(HEADER_LENGTH))
                if self._answer(scope, result):
                    status = 200
                else:
                    await _response(result)(scope, receive, note)
        except Refusal as refusal:
            await refused(refusal)(scope, receive, note)
        except ClientDisconnect:
            pass
        finally:
            service.limits.give_back(state.pop("taken", 0))
            service.measures.answered(_kind(path), status, time.perf_counter() - start)

    def _has_token(self, scope: Any, headers: Mapping[bytes, bytes]) -> bool:
        given = headers.get(b"authorization")
        if given is None or not self._service.tokens.accept(given):
            return False
        return (
            len(headers) == len(scope["headers"])
            or [name for name, _ in scope["headers"]].count(b"authorization") == 1
        )

    def _answer(self, scope: Any, result: Result) -> bool:
        """Answer with one packet, and return whether that went."""
        exchange: Exchange | None = scope.get("extensions", {}).get(EXCHANGE)
        if exchange is None:
            return False
        head = [
            b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\ncontent-type: " % len(result.content),
            _JSON if result.json_bytes is None else _BINARY,
            b"\r\n",
        ]
        if result.json_bytes is not None:
            head.append(b"%s: %d\r\n" % (HEADER_LENGTH, result.json_bytes))
        is_last = self._service.is_leaving
        return exchange.answer(b"".join(head), result.content, is_last=is_last)


def _response(result: Result) -> Response:
    """Return an answer that goes the slow way: its client takes it in parts."""
    headers = {"content-type": (_JSON if result.json_bytes is None else _BINARY).decode()}
    if result.json_bytes is not None:
        headers[HEADER_LENGTH.decode()] = str(result.json_bytes)
    return Response(result.content, headers=headers)


def _kind(path: str) -> str:
    if path.endswith("/infer"):
        return "infer"
    return "score" if path == "/score" else "other"


def _not_allowed(headers: Mapping[bytes, bytes]) -> Response:
    more = {"www-authenticate": "Bearer"}
    if b"transfer-encoding" in headers or int(headers.get(b"content-length", b"0")) > _SMALL:
        more["connection"] = "close"  # what it goes on to send is not read
    return refused(Refusal(401, "The token is missing or wrong.", more))
