"""A Python that has imported once what all commands of this test process import."""

from __future__ import annotations

import atexit
import json
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from threading import Lock, Timer

from tests.support import forks
from tests.support.waiting import HANGS_S


class Forking:
    """A Python that runs ``prepare``, and then each command in a fork of itself.

    Parameters
    ----------
    env
        What it begins with. A command has variables of its own, of which those that a Python reads
        when it begins, such as LANG, must be these: see `alike`.
    user
        Who runs it and the commands: by default whoever tests.
    """

    def __init__(
        self, python: str | Path, prepare: str, env: Mapping[str, str], user: str | None = None
    ) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="hpctf-forking-")
        Path(self._folder.name).chmod(0o777)  # the user writes what a command says
        self._env = _read_at_the_beginning(env)
        self._lock = Lock()
        code = Path(forks.__file__).read_text()  # the user may not be able to read the file
        self._server = subprocess.Popen(
            [*as_user(user), str(python), "-c", code, prepare],
            env=env,
            cwd=self._folder.name,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            start_new_session=True,
        )
        atexit.register(self._server.communicate)  # at the end of its stdin it ends

    def alike(self, env: Mapping[str, str]) -> bool:
        """Tell whether a new Python with these variables would begin as this one did."""
        return _read_at_the_beginning(env) == self._env

    @contextmanager
    def free(self, env: Mapping[str, str]) -> Iterator[bool]:
        """Tell whether a command with these variables can be run within the block: this Python has
        begun `alike`, still lives, and runs none for another thread."""
        is_free = self.alike(env) and self._server.poll() is None
        is_free = is_free and self._lock.acquire(blocking=False)
        try:
            yield is_free
        finally:
            if is_free:
                self._lock.release()

    def run(
        self, *words: str | Path, cwd: Path, env: Mapping[str, str], timeout: float = HANGS_S
    ) -> subprocess.CompletedProcess[bytes]:
        """Run it with words (``-c CODE`` or ``-m MODULE``, and arguments), as `subprocess.run` does
        with a new Python; stdin is empty. One at a time: see `free`.

        Raises
        ------
        subprocess.TimeoutExpired
            It took longer than the timeout, and was killed, and all of this Python with it.
        """
        assert self._server.stdin and self._server.stdout
        out, err = (Path(self._folder.name) / name for name in ("stdout", "stderr"))
        for file in (out, err):
            file.unlink(missing_ok=True)
        order = {"words": list(map(str, words)), "cwd": str(cwd), "env": dict(env)}
        self._server.stdin.write(
            json.dumps({**order, "stdout": str(out), "stderr": str(err)}) + "\n"
        )
        self._server.stdin.flush()
        hangs = Timer(timeout, os.killpg, [self._server.pid, signal.SIGKILL])
        hangs.start()
        try:
            code = self._server.stdout.readline()
        finally:
            hangs.cancel()
        if not code:
            self._server.wait()
            raise subprocess.TimeoutExpired(list(map(str, words)), timeout)
        return subprocess.CompletedProcess(words, int(code), out.read_bytes(), err.read_bytes())


def as_user(user: str | None) -> list[str]:
    """Return the words by which root runs a command as a user."""
    return [] if user is None else ["/usr/sbin/runuser", "-u", user, "--"]


def _read_at_the_beginning(env: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in env.items()
        if name.startswith(("LANG", "LC_", "PYTHON", "LD_", "TZ"))
    }
