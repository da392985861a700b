"""How far slow work has come: a bar on a terminal, a line now and then in a pipe.

Only the command line shows it, and only of what takes longer than a moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

T = TypeVar("T")

_AFTER_S = 1.0
"""How long work may take before anything is shown of it."""
_EVERY_S = 10.0
"""From one line to the next, where there is no terminal."""

_stream: IO[str] | None = None


def show_on(stream: IO[str] | None) -> None:
    """Show the progress of slow work on a stream from now on; None: nowhere."""
    global _stream
    _stream = stream


def followed(
    items: Collection[T], what: str, size: Callable[[T], int] | None = None
) -> Iterator[T]:
    """Yield `items`, and show how many of them are done.

    Parameters
    ----------
    what
        Says what is being done: ``Copying the source folder``.
    size
        Returns an item's size in bytes; by default items are counted.
    """
    if _stream is None:
        yield from items
        return
    weigh = size or (lambda item: 1)
    shown = _Shown(_stream, what, sum(map(weigh, items)), in_bytes=size is not None)
    try:
        for item in items:
            yield item
            shown.advance(weigh(item))
    finally:
        shown.close()


@contextmanager
def measured(what: str, total: Callable[[], int]) -> Iterator[Callable[[int], None]]:
    """Yield what is called with the number of bytes that are done since the last call.

    `total` returns how many there are in all, roughly; it is called only if somebody looks.
    """
    if _stream is None:
        yield lambda amount: None
        return
    shown = _Shown(_stream, what, total(), in_bytes=True)
    try:
        yield shown.advance
    finally:
        shown.close()


class Measured:
    """A stream that calls `done` with the number of bytes that are read or written."""

    def __init__(self, stream: Any, done: Callable[[int], None]) -> None:
        self._stream, self._done = stream, done

    def read(self, size: int = -1, /) -> bytes:
        """Read as the stream does."""
        data: bytes = self._stream.read(size)
        self._done(len(data))
        return data

    def write(self, data: bytes, /) -> int:
        """Write as the stream does."""
        self._done(len(data))
        return int(self._stream.write(data))

    def tell(self) -> int:
        """Return the place within the stream."""
        return int(self._stream.tell())


class _Shown:
    _on_screen = False
    """Whether a bar stands on the terminal: a second one within its work would overwrite it."""

    def __init__(self, stream: IO[str], what: str, total: int, in_bytes: bool) -> None:
        self._stream, self._what, self._total, self._in_bytes = stream, what, total, in_bytes
        self._done = 0
        self._next = time.monotonic() + _AFTER_S
        self._bar: Progress | None = None
        self._task: TaskID | None = None

    def advance(self, amount: int) -> None:
        self._done += amount
        if self._bar is not None and self._task is not None:
            self._bar.update(self._task, completed=self._done)
        elif time.monotonic() >= self._next and self._done < self._total:
            self._next = time.monotonic() + _EVERY_S
            self._show()

    def close(self) -> None:
        if self._bar is not None:
            self._bar.stop()
            _Shown._on_screen = False

    def _show(self) -> None:
        if not self._stream.isatty():
            share = 100 * self._done // self._total
            print(f"{self._what}: {share} %", file=self._stream, flush=True)
            return
        if _Shown._on_screen:
            return
        from rich.progress import (
            BarColumn,
            DownloadColumn,
            MofNCompleteColumn,
            Progress,
            TextColumn,
            TimeRemainingColumn,
        )

        from hpctf.common.terminal import console

        amount: Any = DownloadColumn() if self._in_bytes else MofNCompleteColumn()
        self._bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            amount,
            TimeRemainingColumn(),
            console=console(self._stream),
            transient=True,
            redirect_stdout=False,  # an answer goes its own way; what is said, above the bar
        )
        _Shown._on_screen = True
        self._task = self._bar.add_task(self._what, total=self._total, completed=self._done)
        self._bar.start()
