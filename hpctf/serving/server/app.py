"""What the service answers: Open Inference Protocol v2, Azure's ``/score``, metrics, OpenAPI."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from hpctf._version import __version__
from hpctf.serving.server.azureml import METHODS, scored_by
from hpctf.serving.server.batching import Batcher
from hpctf.serving.server.entry import EntryScript
from hpctf.serving.server.limits import Limits
from hpctf.serving.server.measures import Measures
from hpctf.serving.server.model import Model
from hpctf.serving.server.openapi import openapi
from hpctf.serving.server.protocol import HEADER_LENGTH, answer, as_json, parse
from hpctf.serving.server.refusal import Refusal, wrong
from hpctf.serving.server.rows import scored, to_score
from hpctf.serving.server.tokens import Tokens

_OPEN = frozenset({"/", "/v2/health/live", "/v2/health/ready"})
"""What anybody may ask: whether the service runs."""

_LARGE = 1 << 20
"""Bytes of JSON above which it is read and written in a thread."""

_LEFT = 499
"""Status of a request whose client left before the answer, as nginx notes it."""

_SMALL = 65_536
"""Bytes of a body that a refused client may still send: its connection stays."""


class Service:
    """The models and the entry script that are served, and who may call them."""

    def __init__(
        self,
        name: str,
        models: Sequence[Model],
        script: EntryScript | None,
        tokens: Tokens,
        limits: Limits,
    ) -> None:
        self.name = name
        self.script = script
        self.tokens = tokens
        self.limits = limits
        self.measures = Measures()
        self.is_leaving = False
        """Whether each answer says that the connection ends: another server has taken over."""
        self._models = {model.name: model for model in models}
        self._batchers = {
            model.name: Batcher(model, partial(self.measures.ran, model.name)) for model in models
        }

    @property
    def is_ready(self) -> bool:
        """Whether requests can be answered."""
        return self.script is None or self.script.is_ready

    def app(self) -> Callable[..., Awaitable[None]]:
        """Return the ASGI application."""
        model = "/v2/models/{name}"
        version = model + "/versions/{version}"
        get, post = ["GET"], ["POST"]
        routes = [
            Route("/", self._alive, methods=get),
            Route("/v2/health/live", self._alive, methods=get),
            Route("/v2/health/ready", self._ready, methods=get),
            Route("/v2", self._about, methods=get),
            *(Route(path, self._metadata, methods=get) for path in (model, version)),
            *(Route(f"{path}/ready", self._model_ready, methods=get) for path in (model, version)),
            *(Route(f"{path}/infer", self._infer, methods=post) for path in (model, version)),
            Route("/score", self._score, methods=post if self.script is None else METHODS),
            Route("/metrics", self._metrics, methods=get),
            Route("/swagger.json", self._swagger, methods=get),
        ]
        handlers: Any = {Refusal: _refused, HTTPException: _no_route, ClientDisconnect: _left}
        return Guard(self, Starlette(routes=routes, exception_handlers=handlers))

    async def _alive(self, request: Request) -> Response:
        if self.script is not None and request.url.path == "/":
            return Response("Healthy", media_type="text/html")  # as Azure ML's own server
        return _json({"live": True})

    async def _ready(self, request: Request) -> Response:
        return _json({"ready": self.is_ready}, 200 if self.is_ready else 503)

    async def _about(self, request: Request) -> Response:
        extensions = ["binary_tensor_data"]
        return _json({"name": "hpctf", "version": __version__, "extensions": extensions})

    async def _metadata(self, request: Request) -> Response:
        model = self._model(request)
        about = {
            "name": model.name,
            "versions": [model.version],
            "platform": "onnxruntime_onnx",
            "inputs": [spec.as_json() for spec in model.inputs.values()],
            "outputs": [spec.as_json() for spec in model.outputs.values()],
        }
        return _json(about)

    async def _model_ready(self, request: Request) -> Response:
        return _json({"name": self._model(request).name, "ready": True})

    async def _infer(self, request: Request) -> Response:
        model = self._model(request)
        body = await self._body(request)
        header = request.headers.get(HEADER_LENGTH)
        is_large = _json_bytes(body, header) > _LARGE
        asked = await _in_thread(is_large, parse, body, header, model.inputs, model.outputs)
        outputs = await self._batchers[model.name].run(asked.inputs)
        is_large = sum(value.nbytes for value in outputs.values()) > _LARGE
        content, headers = await _in_thread(
            is_large, answer, model.name, model.version, asked, outputs
        )
        return Response(content, headers=headers)

    async def _score(self, request: Request) -> Response:
        body = await self._body(request)
        if self.script is not None:
            return await scored_by(self.script, request, body)
        if len(self._models) != 1:
            raise wrong("Name one of the models: POST /v2/models/NAME/infer.")
        model = next(iter(self._models.values()))
        inputs = await _in_thread(len(body) > _LARGE, to_score, body, model.inputs)
        outputs = await self._batchers[model.name].run(inputs)
        is_large = sum(value.nbytes for value in outputs.values()) > _LARGE
        return Response(await _in_thread(is_large, scored, outputs), media_type="application/json")

    async def _metrics(self, request: Request) -> Response:
        return Response(self.measures.text(), media_type="text/plain; version=0.0.4")

    async def _swagger(self, request: Request) -> Response:
        schemas = None if self.script is None else self.script.schemas
        return _json(openapi(self.name, [*self._models.values()], schemas))

    def _model(self, request: Request) -> Model:
        name, version = request.path_params["name"], request.path_params.get("version")
        model = self._models.get(name)
        if model is None or version not in (None, model.version):
            known = ", ".join(
                f"{one.name} (version {one.version})" for one in self._models.values()
            )
            raise Refusal(
                404, f"There is no such model or version here; there is {known or 'none'}."
            )
        return model

    async def _body(self, request: Request) -> bytes:
        """Return a request's body, within the limits. A slow one is ended by its connection."""
        if request.headers.get("content-encoding", "identity") != "identity":
            raise Refusal(415, "Compressed bodies are not accepted.")
        limits, close = self.limits, {"connection": "close"}
        length = int(request.headers.get("content-length", 0))
        too_large = Refusal(413, f"A body has at most {limits.body_bytes} bytes here.", close)
        if length > limits.body_bytes:
            raise too_large
        taken = 0
        parts = []
        try:
            limits.take(length)
            taken = length
            size = 0
            async for part in request.stream():
                size += len(part)
                if size > limits.body_bytes:
                    raise too_large
                if size > taken:
                    limits.take(size - taken)
                    taken = size
                parts.append(part)
        except BaseException:
            limits.give_back(taken)
            raise
        request.state.taken = taken
        return parts[0] if len(parts) == 1 else b"".join(parts)


class Guard:
    """Lets in who has a token, notes how each was answered, and gives back the memory taken."""

    def __init__(self, service: Service, app: Starlette) -> None:
        self._service = service
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        """Answer one request (ASGI)."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        service, start = self._service, time.perf_counter()
        status = _LEFT

        async def note(message: Any) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                if service.is_leaving:
                    message["headers"].append((b"connection", b"close"))
            await send(message)

        state = scope.setdefault("state", {})
        try:
            if scope["path"] in _OPEN or self._has_token(scope):
                await self._app(scope, receive, note)
            else:
                await _not_allowed(scope)(scope, receive, note)
        finally:
            service.limits.give_back(state.pop("taken", 0))
            service.measures.answered(_kind(scope["path"]), status, time.perf_counter() - start)

    def _has_token(self, scope: Any) -> bool:
        given = [value for name, value in scope["headers"] if name == b"authorization"]
        known = len(given) == 1 and self._service.tokens.accept(given[0])
        scope["state"]["known"] = known
        return known


def _kind(path: str) -> str:
    if path.endswith("/infer"):
        return "infer"
    return "score" if path == "/score" else "other"


def _not_allowed(scope: Any) -> Response:
    headers = {"www-authenticate": "Bearer"}
    length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
    is_chunked = any(name == b"transfer-encoding" for name, _ in scope["headers"])
    if is_chunked or int(length) > _SMALL:
        headers["connection"] = "close"  # what it goes on to send is not read
    return _json({"error": "The token is missing or wrong."}, 401, headers)


def _json_bytes(body: bytes, header: str | None) -> int:
    return int(header) if header and header.isascii() and header.isdigit() else len(body)


async def _in_thread(is_large: bool, function: Callable[..., Any], *args: Any) -> Any:
    if not is_large:
        return function(*args)
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)


def _json(value: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    return Response(as_json(value), status, headers, media_type="application/json")


async def _refused(request: Request, refusal: Any) -> Response:
    return _json({"error": refusal.message}, refusal.status, refusal.headers)


async def _left(request: Request, error: Any) -> Response:
    return Response(status_code=_LEFT)


async def _no_route(request: Request, error: Any) -> Response:
    return _json({"error": str(error.detail)}, error.status_code, dict(error.headers or {}))
