"""Printing logs that are still being written."""

from __future__ import annotations

from pathlib import Path
from typing import TextIO


class LogPrinter:
    """Prints what a log has gained since it was last shown, whole lines only until the end.

    Parameters
    ----------
    path
        The log, which need not be there yet.
    name
        Put before every line, to tell logs apart; empty for none.
    """

    def __init__(self, path: Path, name: str = "") -> None:
        self._path = path
        self._prefix = f"{name} | " if name else ""
        self._offset = 0

    def show(self, stream: TextIO, final: bool) -> None:
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
            stream.write(f"{self._prefix}{line}\n")
        stream.flush()
