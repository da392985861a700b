"""Reading YAML that people write: site files and job files, whatever they hold."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

from hpctf.errors import shown

LARGEST = 1_000_000
"""Bytes of the largest file that is read: PyYAML takes ten seconds for it."""


class NotReadable(ValueError):
    """A file that cannot be read as YAML; its text says why, and in which line if that is known.

    Parameters
    ----------
    problem
        What is wrong.
    line
        Where, counted from 1.
    """

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.line = line


def plain(text: str) -> str:
    """Return text for a message: as it is, unless it is long or would not show."""
    return text if text.isprintable() and len(text) < 500 else shown(text)


def named(path: Path, line: int | None = None) -> str:
    """Return ``path`` or ``path:line`` for a message."""
    return f"{plain(str(path))}:{line}" if line else plain(str(path))


def read_text(path: Path) -> str:
    """Return a file's text.

    Raises
    ------
    FileNotFoundError
        There is none.
    NotReadable
        It is no file, too large, not UTF-8, or may not be read.
    """
    try:
        with open(_open(path), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise NotReadable("it is not a file")
            content = stream.read(LARGEST + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise NotReadable(error.strerror or str(error)) from None
    if len(content) > LARGEST:
        raise NotReadable(f"it has more than {LARGEST} bytes")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise NotReadable(f"byte {content[error.start]:#x} is not UTF-8", line) from None


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # else it waits for a pipe's writer
    except ValueError:
        raise NotReadable("no file can have this name") from None


def parse_yaml(text: str, loader: Any) -> Any:
    """Return what YAML text says; a key that is there twice is refused.

    Parameters
    ----------
    loader
        The class of PyYAML's loader to use, one written in Python: on brackets within each other
        by the thousand libyaml's kills the whole process.

    Raises
    ------
    NotReadable
        It is not YAML, or too deep.
    """
    import yaml

    try:
        return yaml.load(text, _careful(loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        line = None if mark is None else mark.line + 1
        raise NotReadable(error.problem or "it is not valid", line) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise NotReadable(f"U+{error.character:04X} is not allowed in YAML", line) from None
    except RecursionError:
        raise NotReadable("its values lie too deep within each other") from None
    except Exception as error:  # PyYAML raises whatever comes of `!!bool x` or `!!timestamp x`
        raise NotReadable(f"a value does not fit its tag ({error!r})") from None


def _careful(loader: Any) -> Any:
    """Return the loader with checks that PyYAML leaves out."""
    import yaml

    class Careful(loader):  # type: ignore[misc]
        def compose_mapping_node(self, anchor: Any) -> Any:
            node = super().compose_mapping_node(anchor)
            seen: set[str] = set()
            for key, _ in node.value:
                if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
                    if key.value in seen:
                        problem = f"the key {shown(key.value)} is there twice"
                        raise yaml.MarkedYAMLError(problem=problem, problem_mark=key.start_mark)
                    seen.add(key.value)
            return node

        def flatten_mapping(self, node: Any) -> None:
            """Merge, and keep each key once: merges of merges grow to billions of them."""
            super().flatten_mapping(node)
            kept = {(key.tag, str(key.value)): (key, value) for key, value in node.value}
            node.value = list(kept.values())

    return Careful


_MERGE = "tag:yaml.org,2002:merge"
