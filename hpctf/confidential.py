"""What is not shown of a run: values of variables and options that are called as secrets are.

Reports are sent to others, and differences of runs are pasted into messages.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

HIDDEN = "(hidden)"
EMBEDDED = "data_uri"
"""Key of a file's content in base64."""

_SECRET = re.compile(
    r"TOKEN$|PASSW|SECRET|CREDENTIAL|PRIVATE|(?:^|[_-])(?:API|ACCESS|ACCOUNT)?KEYS?$",
    re.IGNORECASE,
)
_SHORTEST = 4
"""Characters of a value that is looked for everywhere: shorter ones are in any text, and are hidden
beside their names alone."""


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


def secrets_of_run(entry: Mapping[str, Any], record: Mapping[str, Any]) -> set[str]:
    """Return the secrets that a run's plan (its ``entry``) and record hold, as `secrets_of`."""
    commands = (record.get("command"), entry["command"])
    texts = [[str(word) for word in words] for words in commands if isinstance(words, list)]
    return secrets_of(entry["environment"], texts)


def labels(values: Any) -> dict[str, str]:
    """Return parameters or tags as texts, those hidden that are called as secrets are.

    Parameters
    ----------
    values
        A mapping from name to value, None being no value; anything else holds none.
    """
    if not isinstance(values, Mapping):
        return {}
    return {
        name: "" if value is None else HIDDEN if is_secret(name) else str(value)
        for name, value in values.items()
    }


def without_secrets(words: Iterable[str]) -> list[str]:
    """Return an argument vector with the values hidden of what is called as secrets are."""
    words = list(words)
    found = []
    for before, word in zip(["", *words], words, strict=False):
        name, equals, value = word.partition("=")
        inner, inner_equals, _ = value.partition("=")
        if equals and is_secret(name):
            found.append(f"{name}={HIDDEN}")
        elif inner_equals and name.startswith("--") and is_secret(inner):
            found.append(f"{name}={inner}={HIDDEN}")
        elif before.startswith("--") and "=" not in before and is_secret(before):
            found.append(HIDDEN)
        else:
            found.append(word)
    return found


def hide(value: Any, secrets: set[str]) -> Any:
    """Return plain data with each secret in any of its texts replaced by `HIDDEN`; what is under
    `EMBEDDED` stays, since it is no text."""
    if not secrets:
        return value
    ordered = sorted(secrets, key=len, reverse=True)
    pattern = re.compile("|".join(re.escape(secret) for secret in ordered))
    return _hidden(value, pattern)


def _hidden(value: Any, pattern: re.Pattern[str]) -> Any:
    if isinstance(value, str):
        return pattern.sub(HIDDEN, value)
    if isinstance(value, dict):
        return {
            _hidden(key, pattern): inner if key == EMBEDDED else _hidden(inner, pattern)
            for key, inner in value.items()
        }
    if isinstance(value, (list, tuple)):
        return [_hidden(inner, pattern) for inner in value]
    return value
