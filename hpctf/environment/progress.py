"""Telling how a build goes: one line that lives on a terminal, a line a step elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

from hpctf.common.terminal import console as safe_console
from hpctf.common.units import elapsed

Tell = Callable[[str], None]
"""Takes the words of each step of a build as it begins."""


def tell_nobody(words: str) -> None:
    """Keep silent."""


@contextmanager
def telling(stream: IO[str] | None = None) -> Iterator[Tell]:
    """Yield what tells a build's steps on stderr, each with the time since the beginning.

    On a terminal the step that runs now has a clock of its own that goes on.
    """
    to = sys.stderr if stream is None else stream
    start = time.monotonic()

    def print_line(words: str) -> None:
        print(f"[{elapsed(time.monotonic() - start)}] {words}", file=to, flush=True)

    if not to.isatty():
        yield print_line
        return
    from rich.progress import Progress, SpinnerColumn, TaskID, TextColumn, TimeElapsedColumn

    console = safe_console(to)
    columns = (SpinnerColumn(), TextColumn("{task.description}", markup=False), TimeElapsedColumn())
    with Progress(*columns, console=console, transient=True) as live:
        steps: list[tuple[TaskID, float, str]] = []

        def settle(mark: str) -> None:
            while steps:
                step = steps.pop()
                took = elapsed(time.monotonic() - step[1])
                live.remove_task(step[0])
                console.print(f"{mark} {step[2]} ({took})", markup=False, highlight=False)

        def on_terminal(words: str) -> None:
            settle("✓")
            steps.append((live.add_task(words), time.monotonic(), words))

        try:
            yield on_terminal
        except BaseException:
            settle("✗")
            raise
        settle("✓")
