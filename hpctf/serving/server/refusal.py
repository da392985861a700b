"""What a client is told when its request is not answered."""

from __future__ import annotations


class Refusal(Exception):
    """A request that is not answered, with the HTTP status that says whose fault it is.

    Parameters
    ----------
    status
        4xx: the request is wrong; 502: the entry script's process ended; 503: try again later.
    message
        What is wrong, for whoever wrote the client.
    headers
        More headers of the answer.
    """

    def __init__(self, status: int, message: str, headers: dict[str, str] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = headers or {}


def wrong(message: str) -> Refusal:
    """Return what a request is told that breaks the protocol, or that the model does not take."""
    return Refusal(400, message)


def too_busy(message: str) -> Refusal:
    """Return what a request is told that there is no room for now."""
    return Refusal(503, message, {"retry-after": "1"})
