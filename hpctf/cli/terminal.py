"""A terminal's alternate screen: of each picture only the lines that have changed are sent."""

from __future__ import annotations

import io
import os
import select
import signal
import sys
import termios
import tty
from collections.abc import Sequence
from types import FrameType
from typing import Any

from rich.text import Text

from hpctf.common.terminal import console as safe_console

_ENTER = "\x1b[?1049h\x1b[?25l"
_LEAVE = "\x1b[?25h\x1b[?1049l"
_CLEAR = "\x1b[0m\x1b[2J"


def can_show() -> bool:
    """Whether stdout is a terminal with a screen, and shows more than ASCII."""
    dumb = os.environ.get("TERM", "dumb") in ("dumb", "unknown")
    return sys.stdout.isatty() and not dumb and "utf" in (sys.stdout.encoding or "").lower()


class Screen:
    """Takes the terminal over as a context manager, and gives it back as it was.

    A new size, and coming back after Ctrl-Z, end a `pause` and draw everything anew.
    """

    def __init__(self) -> None:
        self._screen = sys.stdout.fileno()
        self._shown: list[str] = []
        self._clear = True
        self._modes: list[Any] | None = None
        self._handlers: dict[int, Any] = {}
        self._keys = sys.stdin.fileno() if sys.stdin and sys.stdin.isatty() else None
        self._wake, self._wakeup = os.pipe()

    def __enter__(self) -> Screen:
        handlers = {
            signal.SIGWINCH: self._resized,
            signal.SIGTSTP: self._stopped,
            signal.SIGTERM: _ended,
        }
        self._handlers = {number: signal.signal(number, do) for number, do in handlers.items()}
        self._take()
        return self

    def __exit__(self, *_: object) -> None:
        self._give_back()
        for number, handler in self._handlers.items():
            signal.signal(number, handler)
        os.close(self._wake)
        os.close(self._wakeup)

    @property
    def size(self) -> tuple[int, int]:
        """Columns and lines that can be drawn on; the last column is left free, since terminals
        differ in what they do there."""
        columns, lines = os.get_terminal_size(self._screen)
        return max(10, columns - 1), max(2, lines)

    def draw(self, lines: Sequence[Text]) -> None:
        """Show lines, from the top."""
        width, height = self.size
        new = rendered(lines[:height], width)
        if self._clear:
            self._clear = False
            self._shown = []
            self._send(_CLEAR)
        changes = [
            f"\x1b[{row};1H{line}\x1b[0m\x1b[K"
            for row, line in enumerate(new, 1)
            if row > len(self._shown) or line != self._shown[row - 1]
        ]
        gone = len(self._shown) > len(new)
        self._send("".join([*changes, f"\x1b[{len(new) + 1};1H\x1b[J" if gone else ""]))
        self._shown = new

    def pause(self, seconds: float) -> str:
        """Wait so long, or until there is a reason to draw; return the keys that were pressed."""
        sources = [self._wake] if self._keys is None else [self._wake, self._keys]
        ready, _, _ = select.select(sources, [], [], seconds)
        if self._wake in ready:
            os.read(self._wake, 512)
        if self._keys in ready and self._keys is not None:
            pressed = os.read(self._keys, 512)
            if not pressed:
                self._keys = None  # it has been closed
            return pressed.decode("utf-8", "replace")
        return ""

    def _take(self) -> None:
        if self._keys is not None:
            self._modes = termios.tcgetattr(self._keys)
            tty.setcbreak(self._keys, termios.TCSADRAIN)
        self._send(_ENTER)
        self._clear = True

    def _give_back(self) -> None:
        self._send(_LEAVE)
        if self._modes is not None and self._keys is not None:
            termios.tcsetattr(self._keys, termios.TCSADRAIN, self._modes)

    def _send(self, text: str) -> None:
        left = text.encode()  # not through sys.stdout, which a signal may have interrupted
        while left:
            left = left[os.write(self._screen, left) :]

    def _resized(self, number: int, frame: FrameType | None) -> None:
        self._clear = True
        os.write(self._wakeup, b"w")

    def _stopped(self, number: int, frame: FrameType | None) -> None:
        """Give the terminal back, stop, and take it again once somebody goes on."""
        self._give_back()
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, self._stopped)
        self._take()
        os.write(self._wakeup, b"w")


def _ended(number: int, frame: FrameType | None) -> None:
    raise SystemExit(128 + number)  # by way of __exit__


def rendered(lines: Sequence[Text], width: int) -> list[str]:
    """Return lines with the colors that the terminal has."""
    stream = io.StringIO()
    console = safe_console(stream, force_terminal=True, width=width, highlight=False)
    for line in lines:
        console.print(line, soft_wrap=True, end="\n")
    return stream.getvalue().split("\n")[: len(lines)]
