"""An entry script that is loaded: its ``run()``, called as its decorators say."""

import importlib.util
import inspect
import json
import os
import sys
import time
import traceback
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

from .azureml_names import FAILED, wants_raw_requests
from .requests import Refused, Request, raw_of, text_of, values_of

_JSON = "application/json"
_WITHOUT_BODY = (204, 304)


class Answer(NamedTuple):
    """What a client gets."""

    status: int
    headers: List[Tuple[str, str]]
    body: bytes


def refusal(status: int, message: str, failed: bool = False) -> Answer:
    """Return what a client is told in Azure ML's words; `failed`: by the script's fault."""
    body = json.dumps({"message": message}).encode()
    return Answer(status, [("content-type", _JSON), (FAILED, str(failed))], body)


class Script:
    """An entry script; ``init()`` has returned.

    Raises
    ------
    Exception
        Whatever the script or its ``init()`` raises, and what is wrong with its ``run()``.
    """

    def __init__(self, path: str) -> None:
        module = _imported(path)
        run = getattr(module, "run", None)
        if not callable(run):
            raise AttributeError(path + " has no function run(data)")
        self._run = run
        parameters = list(inspect.signature(run).parameters.values())
        named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
        if any(parameter.kind not in named for parameter in parameters):
            raise TypeError("run() cannot accept positional-only arguments, *args, or **kwargs")
        wanted = [parameter for parameter in parameters if parameter.name != "request_headers"]
        if not wanted:
            raise TypeError("run() needs to accept an argument for input data")
        self._wants_headers = len(wanted) < len(parameters)
        self._arguments = _arguments_for(run, wanted)
        init = getattr(module, "init", None)
        if init is not None:
            init()

    def schemas(self) -> Dict[str, Any]:
        """Return what inference-schema says of the input and output, for an OpenAPI page."""
        if not _is_decorated(self._run):
            return {}
        util = sys.modules["inference_schema.schema_util"]
        found = {"input": util.get_input_schema(self._run)}
        found["output"] = util.get_output_schema(self._run)
        return dict(json.loads(json.dumps(found, default=str)))  # examples may be dates

    def answer(self, request: Request) -> Answer:
        """Return what ``run()`` answers a request."""
        try:
            arguments = self._arguments(request)
        except Refused as refused:
            if refused.status == 200:
                headers = [("content-type", "text/html; charset=utf-8"), (FAILED, "False")]
                return Answer(200, headers, b"")
            return refusal(refused.status, refused.message)
        if self._wants_headers:
            arguments["request_headers"] = request.as_dict()
        start = time.perf_counter()
        try:
            given = self._run(**arguments)
        except (Exception, SystemExit):
            traceback.print_exc()
            words = "An unexpected error occurred in scoring script. Check the logs for more info."
            return refusal(500, words, failed=True)
        took = "{:.3f}".format((time.perf_counter() - start) * 1000)
        try:
            made = _of_response(given) if _is_response(given) else _of_value(given)
        except Exception:
            traceback.print_exc()
            words = "An unexpected internal error occurred. Check the logs for more info."
            return refusal(500, words)
        return made._replace(headers=[*made.headers, ("x-ms-run-fn-exec-ms", took)])


def _imported(path: str) -> Any:
    name = os.path.splitext(os.path.basename(path))[0]
    spec = importlib.util.spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ImportError(path + " is not a Python script")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _arguments_for(
    run: Any, wanted: List[inspect.Parameter]
) -> Callable[[Request], Dict[str, Any]]:
    is_raw, first = wants_raw_requests(), wanted[0].name
    if is_raw and _is_decorated(run):
        raise TypeError("run() cannot be decorated with both @rawhttp and @input_schema")
    if is_raw:
        return lambda request: {first: raw_of(request)}
    if _is_decorated(run):
        return lambda request: values_of(request, wanted)
    return lambda request: {first: text_of(request)}


def _is_decorated(run: Any) -> bool:
    """Return whether ``inference_schema`` has decorated a function: it takes JSON's values."""
    util = sys.modules.get("inference_schema.schema_util")
    return util is not None and bool(util.is_schema_decorated(run))


def _is_response(given: Any) -> bool:
    wrappers = sys.modules.get("werkzeug.wrappers")
    return wrappers is not None and isinstance(given, wrappers.Response)


def _of_value(given: Any) -> Answer:
    text = json.dumps({} if given is None else given)
    return Answer(200, [("content-type", _JSON), (FAILED, "False")], text.encode())


def _of_response(given: Any) -> Answer:
    status = int(given.status_code)
    if not 200 <= status <= 599:
        raise ValueError("run() answers with the status " + str(status))
    if status >= 500:
        given.headers[FAILED] = "True"
    headers = [(str(name), str(value)) for name, value in given.headers]
    return Answer(status, headers, b"" if status in _WITHOUT_BODY else given.get_data())
