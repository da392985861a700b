"""What the scripts have in common: each model of a request is answered. It imports no library."""

import json
import sys
from typing import Any, Callable, Dict


class Refused(Exception):
    """A model that cannot be loaded or exported, and what can be done about it."""

    def __init__(self, why: str, hint: str = "") -> None:
        super().__init__(why)
        self.hint = hint


def answer_request(answer: Callable[[Dict[str, Any]], Dict[str, Any]]) -> None:
    """Answer each model of the request that the command line names, in ``REQUEST.answer``."""
    with open(sys.argv[1], encoding="utf-8") as stream:
        request = json.load(stream)
    answers = [answer(job) for job in request["models"]]
    with open(sys.argv[1] + ".answer", "w", encoding="utf-8") as stream:
        json.dump(answers, stream)


def first_line(error: Exception) -> str:
    """Return the first line of what an error says; libraries' errors go on for pages."""
    return next(iter(str(error).strip().splitlines()), "")
