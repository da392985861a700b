"""How far slow work has come: a bar on a terminal, a line now and then in a pipe.

Only the command line shows it, and only of what takes longer than a moment.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator
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


class _Shown:
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

    def _show(self) -> None:
        if not self._stream.isatty():
            share = 100 * self._done // self._total
            print(f"{self._what}: {share} %", file=self._stream, flush=True)
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
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task = self._bar.add_task(self._what, total=self._total, completed=self._done)
        self._bar.start()
