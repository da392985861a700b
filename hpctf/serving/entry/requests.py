"""A request as it comes to an entry script, and what its ``run()`` is given of it."""

import inspect
import io
import json
from typing import Any, Dict, List, NamedTuple, Tuple
from urllib.parse import parse_qs


class Refused(Exception):
    """A request that does not get to ``run()``, and the status of its answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message


class Request(NamedTuple):
    """What a client has sent; the names of headers are in small letters."""

    method: str
    path: str
    query: str
    headers: List[Tuple[str, str]]
    body: bytes

    def header(self, name: str) -> str:
        """Return the value of a header; empty if there is none."""
        return ", ".join(value for key, value in self.headers if key == name)

    def as_dict(self) -> Dict[str, str]:
        """Return the headers as ``request_headers`` has them: ``Content-Type``."""
        return {name.title(): self.header(name) for name, _ in self.headers}


def text_of(request: Request) -> str:
    """Return what an undecorated ``run()`` gets: the body, or a GET's parameters as JSON.

    Raises
    ------
    Refused
        It is not UTF-8, or neither a GET nor a POST.
    """
    if request.method == "GET":
        return json.dumps(_parameters(request))
    _check_is_post(request)
    try:
        return str(request.body, "utf-8")
    except UnicodeDecodeError as error:
        raise Refused(400, "Input cannot be decoded as UTF-8: " + str(error)) from None


def values_of(request: Request, wanted: List[inspect.Parameter]) -> Dict[str, Any]:
    """Return what a ``run()`` gets that inference-schema has decorated: JSON's values by name.

    Raises
    ------
    Refused
        It is not a JSON object, or has no value for a parameter.
    """
    given = _parameters(request) if request.method == "GET" else _document(request)
    found = {}
    for parameter in wanted:
        value = given.get(parameter.name, parameter.default)
        if value is inspect.Parameter.empty:
            name = repr(parameter.name)
            raise Refused(400, "A value is not provided for the " + name + " parameter.")
        found[parameter.name] = value
    return found


def raw_of(request: Request) -> Any:
    """Return what a ``run()`` gets that ``@rawhttp`` has decorated: a request of werkzeug's."""
    from werkzeug.test import EnvironBuilder
    from werkzeug.wrappers import Request as Raw

    length = ("content-length", "transfer-encoding")  # the body is whole by now
    headers = [(name, value) for name, value in request.headers if name not in length]
    made = EnvironBuilder(
        request.path,
        base_url="https://" + (request.header("host") or "localhost"),
        query_string=request.query,
        method=request.method,
        headers=headers,
        input_stream=io.BytesIO(request.body),
        content_length=len(request.body),
    )
    return Raw(made.get_environ())


def _parameters(request: Request) -> Dict[str, Any]:
    """Return a GET's parameters: each is JSON or else text, and a list if it is repeated."""
    found = {}
    for name, values in parse_qs(request.query, keep_blank_values=True).items():
        read = [_value(value) for value in values]
        found[name] = read[0] if len(read) == 1 else read
    return found


def _value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _document(request: Request) -> Dict[str, Any]:
    _check_is_post(request)
    kind = request.header("content-type").split(";")[0].strip().lower()
    if kind != "application/json" and not (
        kind.startswith("application/") and kind.endswith("+json")
    ):
        raise Refused(415, "Expects Content-Type to be application/json")
    if not request.body:
        raise Refused(400, "POST body is empty. Expecting a JSON dictionary.")
    try:
        found = json.loads(request.body)
    except ValueError as error:
        raise Refused(400, "POST body could not be decoded as JSON: " + str(error)) from None
    if not isinstance(found, dict):
        raise Refused(400, "POST body should be a JSON dictionary.")
    return found


def _check_is_post(request: Request) -> None:
    if request.method == "OPTIONS":
        raise Refused(200, "")
    if request.method != "POST":
        raise Refused(405, "Method not allowed")
