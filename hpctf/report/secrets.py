"""What a report must not show: it is sent to others."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

HIDDEN = "(hidden)"

_SECRET = re.compile(
    r"TOKEN|PASSW|SECRET|CREDENTIAL|PRIVATE|(?:^|[_-])(?:API|ACCESS|AUTH|LICENSE|SAS|ACCOUNT)?_?"
    r"KEYS?$|(?:^|[_-])AUTH$",
    re.IGNORECASE,
)
_SHORTEST = 4
"""Characters of a value that is looked for everywhere: shorter ones are all over any text."""


def is_secret(name: str) -> bool:
    """Whether a variable or an option is called as those are that hold secrets."""
    return _SECRET.search(name.lstrip("-").partition("=")[0]) is not None


def secrets_of(variables: Mapping[str, str], commands: Iterable[list[str]]) -> set[str]:
    """Return the values of variables and options that are called as secrets are.

    Parameters
    ----------
    commands
        Argument vectors: ``--api-key X``, ``--api-key=X`` and ``--env API_KEY=X`` count.
    """
    found = {value for name, value in variables.items() if is_secret(name)}
    for words in commands:
        for word, following in zip(words, [*words[1:], ""], strict=True):
            name, equals, value = word.partition("=")
            if equals and is_secret(name):
                found.add(value)
            elif equals and name.startswith("--") and is_secret(value.partition("=")[0]):
                found.add(value.partition("=")[2])  # --env=API_KEY=X
            elif not equals and word.startswith("--") and is_secret(word):
                found.add(following)
    return {value for value in found if len(value) >= _SHORTEST}


def hide(value: Any, secrets: set[str]) -> Any:
    """Return plain data with each secret in any of its texts replaced by `HIDDEN`."""
    if not secrets:
        return value
    ordered = sorted(secrets, key=len, reverse=True)
    pattern = re.compile("|".join(re.escape(secret) for secret in ordered))
    return _hidden(value, pattern)


def _hidden(value: Any, pattern: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return pattern.sub(HIDDEN, value)
    if isinstance(value, dict):
        return {_hidden(key, pattern): _hidden(inner, pattern) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_hidden(inner, pattern) for inner in value]
    return value
