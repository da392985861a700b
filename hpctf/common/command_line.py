"""What Linux passes on to a program: words, variables and paths, and how long they may be."""

from __future__ import annotations

import os
from collections.abc import Sequence

from hpctf.errors import UsageError, shown

LONGEST_WORD = 131_071
"""Bytes of the longest argument or ``NAME=VALUE`` that Linux passes on (MAX_ARG_STRLEN)."""

MOST_WORDS = 500_000
"""Bytes of all of a script's arguments together, and of all variables. Linux passes on a quarter
of the stack's limit (execve(2)), 2 MB as a rule, and the job's own environment is in it too."""

_POINTER = 9
"""Bytes that each word costs besides its own: its address, and the NUL at its end."""

LONGEST_PATH = 4095
"""Bytes of the longest path that Linux takes (PATH_MAX without its NUL)."""


def check_path(where: str, path: str | os.PathLike[str]) -> None:
    """Refuse a path that no file can have: the system would not even look."""
    text = os.fsdecode(path)
    if "\0" in text:
        raise UsageError(
            f"{where} {shown(text)} does not exist: no path holds a NUL character.",
            "Remove the NUL character.",
        )
    check_word(where, text)
    if _size(text) > LONGEST_PATH:
        raise UsageError(
            f"{where} is {shown(text, 60)}, but no path has more than {LONGEST_PATH} bytes.",
            "Use a shorter path.",
        )


def _size(text: str) -> int:
    """Return how many bytes a text has on the nodes, whatever the locale is here."""
    return len(text.encode("utf-8", "surrogateescape"))


def check_sum(where: str, words: Sequence[str]) -> None:
    """Refuse more words than execve(2) can pass on together."""
    size = sum(_size(word) + _POINTER for word in words)
    if size > MOST_WORDS:
        raise UsageError(
            f"{where} has {size} bytes in all, but a script can be given {MOST_WORDS} at most.",
            "Write them to a file of source_directory instead.",
        )


def check_word(where: str, text: str) -> None:
    """Refuse text that execve(2) cannot pass on as one argument or variable."""
    if "\0" in text:
        raise UsageError(
            f"{where} holds a NUL character, which no argument or variable can.",
            "Remove it, or pass the value in a file.",
        )
    try:
        size = _size(text)
    except UnicodeEncodeError as error:
        character = text[error.start]
        raise UsageError(
            f"{where} holds {character!r}, which is not a character.",
            "Save the file as UTF-8, or pass the value in a file.",
        ) from None
    if size > LONGEST_WORD:
        raise UsageError(
            f"{where} has {size} bytes, but Linux passes on {LONGEST_WORD} at most.",
            "Write it to a file of source_directory instead.",
        )
