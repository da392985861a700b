"""What people see: text that shows in any encoding, and does nothing to their terminal.

Names, tags, logs and reasons come from whoever wrote them. A control character among them could
clear the screen, rename the window or turn a line around; half a character ends a program that
writes it. `guard` puts sys.stdout and sys.stderr behind a stream that escapes them all; rich's
colors and moves go past it, through `console`, which escapes the texts alone.
"""

from __future__ import annotations

import codecs
import contextlib
import io
import re
import sys
import unicodedata
from typing import TYPE_CHECKING, Any, TextIO

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.console import Console

_UNSAFE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f"  # C0 but for tab and line feed, DEL, C1
    "\u061c\u200e\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"  # directions, separators
    "\ud800-\udfff\U000e0000-\U000e007f]"  # halves of characters, invisible tags
)
_COLORS = re.compile(r"\x1b\[[0-9;:]*[mK]|[\x07\x08]")
"""What progress bars write besides their text: colors, "erase the line", backspaces, bells."""

_IN_ASCII = {
    "→": "->", "←": "<-", "↑": "^", "↓": "v", "…": "...", "–": "-", "—": "-", "−": "-", "×": "x",
    "·": ".", "•": "*", "●": "*", "○": "o", "✓": "ok", "✔": "ok", "✗": "x", "✘": "x", "≥": ">=",
    "≤": "<=", "±": "+-", "‘": "'", "’": "'", "“": '"', "”": '"', "«": '"', "»": '"', "µ": "u",
}  # fmt: skip
_BRAILLE, _BLOCKS, _BOXES = (0x2800, 0x28FF), (0x2580, 0x259F), (0x2500, 0x257F)
_ERRORS = "hpctf-ascii"


def visible(text: str) -> str:
    """Return text with what a terminal would act on, or cannot show, as ``\\x1b``.

    Bytes of a file's name that are not UTF-8 stand as ``\\xe9``, too.
    """
    return text if text.isprintable() else _UNSAFE.sub(_escaped, text)


def visible_value(value: Any) -> Any:
    """Return plain text as `visible`, and anything else as it is: what Jinja calls for a value."""
    return visible(value) if value.__class__ is str else value


def log_line(line: str) -> str:
    """Return a line of a log as a terminal would leave it: of a progress bar the last state, and no
    colors; what else a terminal would act on is `visible`."""
    if line.isprintable():
        return line
    states = _COLORS.sub("", line).rstrip("\r").split("\r")
    return visible(states[-1])


def _escaped(match: re.Match[str]) -> str:
    code = ord(match.group())
    if 0xDC80 <= code <= 0xDCFF:  # a byte (PEP 383)
        code -= 0xDC00
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def _in_ascii(error: UnicodeError) -> tuple[str | bytes, int]:
    """Return for what an encoding has not what is nearest to it, or its escape (PEP 293)."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = "".join(map(_nearest, error.object[error.start : error.end]))
    return text, error.end


def _nearest(char: str) -> str:
    known = _IN_ASCII.get(char)
    if known is not None:
        return known
    code = ord(char)
    if _BRAILLE[0] <= code <= _BRAILLE[1]:
        return "*" if code > _BRAILLE[0] else " "
    if _BLOCKS[0] <= code <= _BLOCKS[1]:
        return "#"
    if _BOXES[0] <= code <= _BOXES[1]:
        name = unicodedata.name(char, "")
        return "-" if name.endswith("HORIZONTAL") else "|" if name.endswith("VERTICAL") else "+"
    if unicodedata.category(char) == "Zs":
        return " "
    return char.encode("ascii", "backslashreplace").decode()


codecs.register_error(_ERRORS, _in_ascii)


class Guarded:
    """A text stream that writes what is `visible`, in whatever encoding it has.

    It has no ``buffer``: nothing goes past it by accident (click looks for one).
    """

    def __init__(self, stream: TextIO) -> None:
        self.unguarded = stream

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() takes str, not {type(text).__name__}")
        self.unguarded.write(visible(text))
        return len(text)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        if name == "buffer":
            raise AttributeError(name)
        return getattr(self.unguarded, name)


def guard() -> None:
    """Put this process's stdout and stderr behind `Guarded`."""
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None or isinstance(stream, Guarded):  # closed, as by ``hpctf ... >&-``
            continue
        stream.reconfigure(errors=_ERRORS)
        setattr(sys, name, Guarded(stream))


def data(content: str | bytes) -> None:
    """Write data to stdout: into a file or a pipe as it is, in UTF-8; on a terminal what is
    `visible` of it."""
    stream: Any = sys.stdout
    raw = getattr(stream, "unguarded", stream)
    if stream.isatty() or not hasattr(raw, "buffer"):
        text = content if isinstance(content, str) else content.decode("utf-8", "surrogateescape")
        stream.write(visible(text))
        return
    stream.flush()
    raw.buffer.write(
        content if isinstance(content, bytes) else content.encode("utf-8", "backslashreplace")
    )


@contextlib.contextmanager
def data_stream() -> Iterator[TextIO]:
    """Yield a stream for `data` that is written in many parts."""
    stream: Any = sys.stdout
    raw = getattr(stream, "unguarded", stream)
    if stream.isatty() or not hasattr(raw, "buffer"):
        yield stream
        return
    stream.flush()
    through = io.TextIOWrapper(raw.buffer, "utf-8", "backslashreplace", newline="")
    try:
        yield through
    finally:
        through.detach()  # else it would close stdout


def console(stream: Any = None, **options: Any) -> Console:
    """Return rich's console for a stream, by default stdout: texts on it are `visible`."""
    from rich.console import Console
    from rich.segment import Segment

    class Safe(Console):
        def render(self, *args: Any, **kwargs: Any) -> Iterable[Segment]:
            for segment in super().render(*args, **kwargs):
                text = segment.text
                if segment.control or text.isprintable():
                    yield segment
                else:
                    yield Segment(visible(text), segment.style)

    stream = sys.stdout if stream is None else stream
    return Safe(file=getattr(stream, "unguarded", stream), **options)
