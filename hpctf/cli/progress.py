"""Progress of a wait: one line that lives on a terminal, a line a change in a pipe."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from hpctf.common.terminal import console, visible
from hpctf.common.units import elapsed
from hpctf.runs.status.state import describe

if TYPE_CHECKING:
    from hpctf.runs.status.state import RunState

OnChange = Callable[["RunState", float], None]


@contextmanager
def progress() -> Iterator[OnChange]:
    """Yield what `Run.wait_for_completion` is to call at every look."""
    if not sys.stderr.isatty():
        yield _plain_lines()
        return
    from rich.markup import escape

    with console(sys.stderr).status("Waiting ...") as live:
        yield lambda status, waited: live.update(
            escape(f"{visible(describe(status))}  {elapsed(waited)}")
        )


def _plain_lines() -> OnChange:
    last = ""

    def on_change(status: RunState, waited: float) -> None:
        nonlocal last
        words = describe(status)
        if words != last:
            print(f"[{elapsed(waited)}] {words}", file=sys.stderr, flush=True)
            last = words

    return on_change
