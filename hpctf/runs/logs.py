"""Printing logs that are still being written."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO


class LogPrinters:
    """Prints several logs, as `LogPrinter` does one."""

    def __init__(self, printers: Sequence[LogPrinter]) -> None:
        self._printers = printers

    def show(self, final: bool) -> None:
        """Print the new lines of each."""
        for printer in self._printers:
            printer.show(final)


class LogPrinter:
    """Prints what a log has gained since it was last shown, whole lines only until the end.

    Parameters
    ----------
    path
        The log, which need not be there yet.
    name
        Put before every line, to tell logs apart; empty for none.
    stream
        Where the lines go; by default stdout.
    """

    def __init__(self, path: Path, name: str = "", stream: TextIO | None = None) -> None:
        self._stream = stream or sys.stdout
        self._path = path
        self._prefix = f"{name} | " if name else ""
        self._offset = 0

    def show(self, final: bool) -> None:
        """Print the new lines; `final` says that nothing more will come, so also the last part."""
        try:
            with self._path.open("rb") as log:
                log.seek(self._offset)
                text = log.read()
        except FileNotFoundError:
            return
        if not final:
            text = text[: text.rfind(b"\n") + 1]
        self._offset += len(text)
        for line in text.decode("utf-8", "replace").removesuffix("\n").split("\n") if text else ():
            self._stream.write(f"{self._prefix}{line}\n")
        self._stream.flush()
