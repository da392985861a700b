"""What a service answers: Open Inference Protocol v2, Azure's ``/score``, metrics, OpenAPI."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, TypeVar

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from hpctf._version import __version__
from hpctf.serving.server.azureml import METHODS, scored_by
from hpctf.serving.server.batching import Batcher
from hpctf.serving.server.bodies import read_body
from hpctf.serving.server.entry import EntryScript
from hpctf.serving.server.limits import Limits
from hpctf.serving.server.measures import Measures
from hpctf.serving.server.model import Model
from hpctf.serving.server.openapi import openapi
from hpctf.serving.server.protocol import Body, answer, as_json, bytes_of_json, parse
from hpctf.serving.server.refusal import Refusal, wrong
from hpctf.serving.server.rows import scored, to_score
from hpctf.serving.server.tokens import Tokens

_LARGE = 1 << 20
"""Bytes of JSON above which it is read and written in a thread."""

T = TypeVar("T")


class Result(NamedTuple):
    """What a model answers, with the length of its JSON if tensors follow it."""

    content: bytes
    json_bytes: int | None = None


Answering = Callable[[Body, "bytes | None"], Awaitable[Result]]
"""Runs a model, given a body and the header that says how much of it is JSON."""


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
        self.measures = Measures(limits)
        self.is_leaving = False
        """Whether each answer says that the connection ends: another server has taken over."""
        self._models = {model.name: model for model in models}
        self.answering: dict[str, Answering] = {}
        """What runs a model, by path."""
        for model in models:
            batcher = Batcher(model, limits, self.measures.batches(model.name))
            infer = partial(_infer, model, batcher)
            for place in (model.name, f"{model.name}/versions/{model.version}"):
                self.answering[f"/v2/models/{place}/infer"] = infer
            if len(models) == 1 and script is None:
                self.answering["/score"] = partial(_score, model, batcher)

    @property
    def is_ready(self) -> bool:
        """Whether requests can be answered."""
        return self.script is None or self.script.is_ready

    def app(self) -> Starlette:
        """Return what answers all but `answering`."""
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
            *(Route(f"{path}/infer", self._unknown, methods=post) for path in (model, version)),
            Route("/score", self._score, methods=post if self.script is None else METHODS),
            Route("/metrics", self._metrics, methods=get),
            Route("/swagger.json", self._swagger, methods=get),
        ]
        handlers: Any = {Refusal: _refused, HTTPException: _no_route}
        return Starlette(routes=routes, exception_handlers=handlers)

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

    async def _unknown(self, request: Request) -> Response:
        return _json({"name": self._model(request).name})  # refuses: those known are in `answering`

    async def _score(self, request: Request) -> Response:
        if self.script is None:
            raise wrong("Name one of the models: POST /v2/models/NAME/infer.")
        headers = dict(request.headers.raw)
        body = await read_body(request.scope, request.receive, headers, self.limits)
        return await scored_by(self.script, request, bytes(body))

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


async def _infer(model: Model, batcher: Batcher, body: Body, json_length: bytes | None) -> Result:
    is_large = (bytes_of_json(json_length) or len(body)) > _LARGE
    asked = await _in_thread(is_large, parse, body, json_length, model.inputs, model.outputs)
    outputs = await batcher.run(asked.inputs)
    is_large = sum(value.nbytes for value in outputs.values()) > _LARGE
    return Result(*await _in_thread(is_large, answer, model.name, model.version, asked, outputs))


async def _score(model: Model, batcher: Batcher, body: Body, json_length: bytes | None) -> Result:
    inputs = await _in_thread(len(body) > _LARGE, to_score, body, model.inputs)
    outputs = await batcher.run(inputs)
    is_large = sum(value.nbytes for value in outputs.values()) > _LARGE
    return Result(await _in_thread(is_large, scored, outputs))


async def _in_thread(is_large: bool, function: Callable[..., T], *args: Any) -> T:
    if not is_large:
        return function(*args)
    return await asyncio.get_running_loop().run_in_executor(None, function, *args)


def _json(value: Any, status: int = 200) -> Response:
    return Response(as_json(value), status, media_type="application/json")


def refused(refusal: Refusal) -> Response:
    """Return what a client is told that is not answered."""
    text = as_json({"error": refusal.message})
    return Response(text, refusal.status, refusal.headers, media_type="application/json")


async def _refused(request: Request, refusal: Any) -> Response:
    return refused(refusal)


async def _no_route(request: Request, error: Any) -> Response:
    return refused(Refusal(error.status_code, str(error.detail), dict(error.headers or {})))
