"""``/score`` with an entry script, as Azure ML's own server answers it over HTTP."""

from __future__ import annotations

import uuid

from starlette.requests import Request
from starlette.responses import Response

from hpctf.serving.entry.requests import Request as EntryRequest
from hpctf.serving.entry.script import Answer, refusal
from hpctf.serving.server.entry import EntryScript

METHODS = ("GET", "POST", "OPTIONS")  # and HEAD, which goes with GET

_MOST_ID = 100
"""Characters of an id that a client gives its request."""

_OF_CONNECTION = frozenset({"connection", "content-length", "keep-alive", "transfer-encoding"})
"""Headers that are the server's."""

_WITHOUT_BODY = (204, 304)


async def scored_by(script: EntryScript, request: Request, body: bytes) -> Response:
    """Return what an entry script answers.

    Raises
    ------
    Refusal
        The script's process ended, or is being started again.
    """
    ids, too_long = _ids(request)
    if too_long:
        return _response(refusal(431, f"{too_long} must not exceed {_MOST_ID} characters"), ids)
    given = [
        (name.decode("latin-1"), value.decode("latin-1")) for name, value in request.headers.raw
    ]
    path, query = request.url.path, request.url.query
    answer = await script.run(EntryRequest(request.method, path, query, given, body))
    return _response(answer, ids)


def _ids(request: Request) -> tuple[dict[str, str], str]:
    """Return the headers by which a client finds its request again, and which of them are too long.

    A client that names none gets a new one. ``x-ms-request-id`` is the older name of the client's.
    """
    headers = request.headers
    own = headers.get("x-request-id") or str(uuid.uuid4())
    if len(own) > _MOST_ID:
        return {}, "x-request-id"
    older, client = headers.get("x-ms-request-id", ""), headers.get("x-ms-client-request-id", "")
    client = client or older
    older = older or client or own
    found = {"x-request-id": own}
    if max(len(older), len(client)) > _MOST_ID:
        return found, "x-ms-request-id and x-ms-client-request-id"
    found["x-ms-request-id"] = older
    if client:
        found["x-ms-client-request-id"] = client
    return found, ""


def _response(answer: Answer, ids: dict[str, str]) -> Response:
    made = Response(status_code=answer.status)
    pairs = [pair for pair in answer.headers if pair[0].lower() not in _OF_CONNECTION]
    if answer.status not in _WITHOUT_BODY:
        made.body = answer.body
        pairs.append(("content-length", str(len(answer.body))))
    made.raw_headers = [
        (name.lower().encode("latin-1", "replace"), value.encode("latin-1", "replace"))
        for name, value in [*pairs, *ids.items()]
    ]
    return made
