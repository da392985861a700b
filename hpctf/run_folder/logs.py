"""Printing logs that are still being written."""

from __future__ import annotations

import codecs
import re
import sys
from pathlib import Path
from typing import TextIO

from hpctf.client.hpctf.within import open_file
from hpctf.common.terminal import data, log_line

_AT_ONCE = 1 << 20
"""Bytes that are read at once."""

_LINES = re.compile(rb"(?<=\n)")
"""The ends of lines; a progress bar's carriage returns are none."""


class LogPrinter:
    """Prints what a log has gained since it was last shown, whole lines only until the end.

    Parameters
    ----------
    path, name
        The log, which need not be there yet, and what is put before every line of it.
    stream
        Where the lines go, each as `log_line` has it; by default stdout.
    raw
        Whether the bytes go to stdout as they are, as a file or a pipe wants them.
    """

    def __init__(
        self, path: Path, name: str = "", stream: TextIO | None = None, raw: bool = False
    ) -> None:
        self._raw = raw
        self._stream = stream or sys.stdout
        self._path = path
        self._prefix = f"{name} | " if name else ""
        self._offset = 0
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._begins_line = True

    def show(self, final: bool) -> None:
        """Print the new lines; `final` says that nothing more will come, so also the last part.

        A line that is longer than what is read at once is printed in parts as it comes.
        """
        try:
            with open_file(self._path) as log:
                log.seek(self._offset)
                while text := log.read(_AT_ONCE):
                    part = text[: text.rfind(b"\n") + 1]
                    if not part and (final or len(text) == _AT_ONCE):
                        part = text
                    if not part:
                        break
                    self._offset += len(part)
                    self._write(part)
                    log.seek(self._offset)
        except FileNotFoundError:
            return
        if final and not self._begins_line:
            self._write(b"\n")
        self._stream.flush()

    def _write(self, part: bytes) -> None:
        lines = _LINES.split(part) if self._prefix or not self._raw else [part]
        made = []
        for line in filter(None, lines):
            prefix = self._prefix.encode() if self._begins_line else b""
            self._begins_line = line.endswith(b"\n")
            if not self._raw:
                text = self._decoder.decode(line, final=self._begins_line)
                end = "\n" if text.endswith("\n") else ""
                line = f"{log_line(text.removesuffix(end))}{end}".encode()
            made.append(prefix + line)
        written = b"".join(made)
        if self._raw:
            data(written)
        else:
            self._stream.write(written.decode())
