"""A terminal for commands under test: a real pty, and what a person would see on it."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import shlex
import signal
import struct
import subprocess
import sys
import termios
import threading
from pathlib import Path

import pyte

from tests.support.waiting import HANGS_S, wait_until

ROOT = Path(__file__).resolve().parents[2]


class Terminal:
    """An hpctf command on a terminal of its own.

    Parameters
    ----------
    words
        The command's arguments.
    cwd
        Where it runs, with ``runs`` there as the runs root.
    columns, lines
        The terminal's size.
    term
        The kind that the command is told of.
    then
        What the shell is to do once the command has stopped (Ctrl-Z); without it there is no shell.
    """

    def __init__(
        self,
        *words: str,
        cwd: Path,
        columns: int = 80,
        lines: int = 24,
        term: str = "xterm-256color",
        then: str = "",
    ) -> None:
        self.sent = b""
        self._master, self._slave = pty.openpty()
        self._view = pyte.Screen(columns, lines)
        self._stream = pyte.ByteStream(self._view)
        self._lock = threading.Lock()
        self._size(columns, lines)
        self.modes_before = termios.tcgetattr(self._slave)
        root = {"HPCTF_RUNS_ROOT": str(cwd / "runs"), "PYTHONPATH": str(ROOT)}
        command = [sys.executable, "-c", "from hpctf.cli import main; main()", *words]
        if then:
            command = ["bash", "-m", "-c", f"{shlex.join(command)}; {then}"]
        self.process = subprocess.Popen(
            command,
            cwd=cwd,
            env={**os.environ, **root, "TERM": term, "LANG": "C.UTF-8"},
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            preexec_fn=self._controls,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def screen(self) -> list[str]:
        """Return the lines that are seen now."""
        with self._lock:
            return [line.rstrip() for line in self._view.display]

    def text(self) -> str:
        """Return all that is seen now."""
        return "\n".join(self.screen())

    def shows(self, *words: str) -> None:
        """Wait until all of these are seen at a time."""
        wait_until(lambda: all(word in self.text() for word in words))

    def type(self, keys: str) -> None:
        """Press keys; ``\\x03`` is Ctrl-C."""
        os.write(self._master, keys.encode())

    def resize(self, columns: int, lines: int) -> None:
        """Give the window another size."""
        with self._lock:
            self._view.resize(lines, columns)
            self._view.reset()
        self._size(columns, lines)
        self.process.send_signal(signal.SIGWINCH)

    def ends(self) -> int:
        """Wait for the command's end, and return its exit code."""
        code = self.process.wait(HANGS_S)
        self.modes_after = termios.tcgetattr(self._slave)
        os.close(self._slave)
        self._reader.join(HANGS_S)
        os.close(self._master)
        return code

    def _controls(self) -> None:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    def _size(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def _read(self) -> None:
        while True:
            select.select([self._master], [], [])
            try:
                new = os.read(self._master, 65536)
            except OSError:
                return
            if not new:
                return
            with self._lock:
                self.sent += new
                self._stream.feed(new)
