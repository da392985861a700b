"""Reading what people write on any system: texts in general, and the YAML of site and job files."""

from __future__ import annotations

import codecs
import io
import os
import stat
import sys
import tokenize
from pathlib import Path
from typing import Any

from hpctf.errors import shown

LARGEST = 1_000_000
"""Bytes of the largest file that is read: PyYAML takes ten seconds for it."""


class NotReadable(ValueError):
    """A file that cannot be read as text, or as YAML; it says why, and in which line (counted from
    1) if that is known."""

    def __init__(self, problem: str, line: int | None = None) -> None:
        super().__init__(problem)
        self.line = line

    def told(self, what: str, path: Path) -> str:
        """Return the sentence that says so of a file, which is a ``lock file``, for example."""
        return f"The {what} {named(path, self.line)} cannot be read: {self}."


def printable(text: str) -> str:
    """Return text for a message: as it is, unless it is long or would not show."""
    return text if text.isprintable() and len(text) < 500 else shown(text)


def named(path: Path, line: int | None = None) -> str:
    """Return ``path`` or ``path:line`` for a message."""
    return f"{printable(str(path))}:{line}" if line else printable(str(path))


def read_text(path: Path) -> str:
    """Return a file's text, as `decoded`.

    Raises
    ------
    FileNotFoundError
        There is none.
    NotReadable
        It is no file, too large, of another encoding, or may not be read.
    """
    try:
        with open(_open(path), "rb") as stream:
            if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
                raise NotReadable("it is not a file")
            content = stream.read(LARGEST + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(*error.args) from None
    except OSError as error:
        raise NotReadable(error.strerror or str(error)) from None
    if len(content) > LARGEST:
        raise NotReadable(f"it has more than {LARGEST} bytes")
    return decoded(content)


def decoded(content: bytes) -> str:
    """Return text as editors of any system write it: UTF-8, or UTF-16 with its byte order mark.

    A byte order mark is no part of the text, and CR LF and CR end lines as LF does. Raises
    `NotReadable` if it is neither, naming the line and the byte.
    """
    is_wide = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_wide else "utf-8-sig")
    except UnicodeDecodeError as error:
        if is_wide:
            raise NotReadable("it begins as UTF-16, but is not; save it as UTF-8") from None
        start = error.start + len(content) - len(content.removeprefix(codecs.BOM_UTF8))
        raise _not_utf_8(content, start) from None
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _not_utf_8(content: bytes, start: int) -> NotReadable:
    before = content[:start].replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    return NotReadable(
        f"byte {content[start]:#x} is not UTF-8; save it in that encoding", before.count(b"\n") + 1
    )


def check_program(path: Path) -> None:
    """Refuse, by `NotReadable`, a script that its interpreter could not read.

    Python reads what is UTF-8, with or without a byte order mark, or what its first lines say
    (PEP 263); the kernel takes a first line ``#!`` as it is, with the CR of a CR LF.
    """
    try:
        with open(path, "rb") as stream:
            content = stream.read()
    except OSError as error:
        raise NotReadable(error.strerror or str(error)) from None
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise NotReadable("it is UTF-16, which no interpreter reads; save it as UTF-8")
    if path.suffix == ".py":
        _check_python(content)
        return
    first = content.removeprefix(codecs.BOM_UTF8)[:256].partition(b"\n")[0]
    if not first.startswith(b"#!"):
        return
    if content.startswith(codecs.BOM_UTF8):
        raise NotReadable("a byte order mark stands before its #!; save it without one", 1)
    if first.endswith(b"\r"):
        program = first[2:].decode("utf-8", "backslashreplace").strip()
        raise NotReadable(
            f"its lines end with CR LF, so that {program + chr(13)!r} would have to run it; "
            f"convert it: dos2unix {path.name}",
            1,
        )


def _check_python(content: bytes) -> None:
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(content).readline)
        content.decode(encoding)
    except UnicodeDecodeError as error:
        if error.encoding in ("utf-8", "utf-8-sig"):
            raise _not_utf_8(content, error.start) from None
        raise NotReadable(f"byte {content[error.start]:#x} is not {error.encoding}") from None
    except SyntaxError:
        # Bytes of the first two lines, or an encoding that this Python does not know.
        try:
            content.decode("utf-8-sig")
        except UnicodeDecodeError as error:
            if b"coding" not in content[:400]:
                raise _not_utf_8(content, error.start) from None


def _open(path: Path) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK)  # else it waits for a pipe's writer
    except ValueError:
        raise NotReadable("no file can have this name") from None


def parse_toml(text: str) -> dict[str, Any]:
    """Return what TOML text says; `NotReadable` says that it is none."""
    if sys.version_info >= (3, 11):
        import tomllib  # novm: 3.11 or later gets here
    else:
        import tomli as tomllib

    try:
        content: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise NotReadable(str(error).rstrip(".")) from None
    return content


def parse_yaml(text: str, *, as_written: bool = False) -> Any:
    """Return what YAML text says; a key that is there twice is refused.

    Numbers of base 60 and 8 are text: ``1:30:00`` is a time, ``0027`` a umask. With `as_written`
    each value is the text it was written as, like a command line's words: ``yes`` and ``7`` are not
    yet a boolean and a number; only null is None. Raises `NotReadable` if it is not YAML, or too
    deep.
    """
    import yaml

    try:
        return yaml.load(text, loader_class(as_written))
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


def loader_class(as_written: bool = False) -> Any:
    """Return PyYAML's loader with checks that it leaves out.

    It is the one written in Python: on brackets within each other by the thousand libyaml's kills
    the whole process.
    """
    import yaml

    class Loader(yaml.SafeLoader):
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

        def construct_yaml_int(self, node: Any) -> Any:
            digits = node.value
            as_text = ":" in digits or (digits.startswith("0") and digits[1:].isdigit())
            return digits if as_text else super().construct_yaml_int(node)

    Loader.add_constructor("tag:yaml.org,2002:int", Loader.construct_yaml_int)
    if as_written:
        Loader.yaml_implicit_resolvers = {
            first: [(tag, form) for tag, form in known if tag.endswith((":null", ":merge"))]
            for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }
    return Loader


_MERGE = "tag:yaml.org,2002:merge"
