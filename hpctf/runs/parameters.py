"""What a training was called with, by name: what runs are compared by."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hpctf.estimator.tensorflow import TensorFlow


def parameters_of(estimator: TensorFlow) -> dict[str, Any]:
    """Return a script's options, or a function's arguments, as JSON has them.

    A bare flag is True; arguments without an option are ``arg1``, ``arg2`` and so on; what JSON
    cannot hold is named by its `repr`.
    """
    if isinstance(estimator.arguments, dict):
        return {name: _plain(value) for name, value in estimator.arguments.items()}
    return _of_words(estimator.command_line())


def _of_words(words: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    flag = ""
    alone = 0
    for word in words:
        name, equals, value = word.partition("=")
        if _is_option(word):
            flag = name.lstrip("-")
            found[flag] = _number(value) if equals else True
            flag = "" if equals else flag
        elif flag:
            before = found[flag]
            value_now = _number(word)
            found[flag] = value_now if before is True else f"{before} {word}"
        else:
            alone += 1
            found[f"arg{alone}"] = _number(word)
    return found


def _is_option(word: str) -> bool:
    """Whether a word names an option: ``-1e-3`` does not."""
    return word.startswith("-") and len(word) > 1 and isinstance(_number(word), str)


def _number(word: str) -> Any:
    for kind in (int, float):
        try:
            return kind(word)
        except ValueError:
            continue
    return word


def _plain(value: Any) -> Any:
    return value if isinstance(value, (bool, int, float, str, type(None))) else repr(value)[:500]
