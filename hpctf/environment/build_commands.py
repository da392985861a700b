"""Running the programs that build: what they print goes to the build's log."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from hpctf.common.files import PRIVATE_FILE, tail
from hpctf.common.secrets import hidden
from hpctf.errors import BuildError
from hpctf.scheduler.programs import FOLDER

_LINES = 20
_BEGINS = "$ "
"""What a command's line in the log begins with."""
_NO_NETWORK = (
    "dns error",
    "tcp connect error",
    "error sending request",
    "Network is unreachable",
    "Temporary failure in name resolution",
    "Failed to establish a new connection",
    "CondaHTTPError",
    "Could not resolve host",
)
"""What uv, pip and conda say where no index is reached."""
_PDEATHSIG = 1  # prctl(2), PR_SET_PDEATHSIG
_FULL = (os.strerror(errno.ENOSPC), os.strerror(errno.EDQUOT))


@dataclass(frozen=True)
class Commands:
    """Programs of one build, whose environment are the `variables`.

    Parameters
    ----------
    log
        Takes all that they print.
    secrets
        What they know and nobody else is to see.
    """

    log: Path
    variables: Mapping[str, str]
    umask: int = 0o077
    secrets: frozenset[str] = frozenset()

    def run(
        self,
        words: Sequence[str | Path],
        what: str,
        more: Mapping[str, str] | None = None,
        *,
        timeout: float | None = None,
        answers: bool = False,
    ) -> str:
        """Run a program to its end; return what it prints on stdout, if it `answers` there.

        Parameters
        ----------
        what
            What it does, for the message if it fails: ``Installing packages``.
        more
            Variables besides the build's own.

        Raises
        ------
        BuildError
            It fails: with the last lines of the log.
        """
        command = [str(word) for word in words]
        if any(secret in word for word in command for secret in self.secrets):
            raise BuildError(
                f"{what} was not started: its command line would show a password to every user "
                f"of {os.uname().nodename}.",
                "Give the password in ~/.netrc, or in your own configuration of the program.",
            )
        descriptor = os.open(self.log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, PRIVATE_FILE)
        with open(descriptor, "ab") as log:
            log.write(f"{_BEGINS}{' '.join(command)}\n".encode(errors="surrogateescape"))
            log.flush()
            try:
                child = subprocess.Popen(
                    command,
                    cwd=FOLDER,
                    env={**self.variables, **(more or {})},
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE if answers else log,
                    stderr=log,
                    umask=self.umask,
                    start_new_session=True,  # an interrupt is ours to pass on
                    preexec_fn=_die_with_us,
                )
            except OSError as error:
                raise BuildError(
                    f"{what} failed: {command[0]!r}: {error.strerror}.",
                    "Install the program, or name another one in the site file (environments).",
                ) from None
            try:
                said, _ = child.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                _end(child)
                raise self.failed(what, f"it did not end within {timeout:g} s") from None
            except BaseException:
                _end(child)
                raise
        code = child.returncode
        if code:
            how = f"exit code {code}" if code > 0 else f"killed by {signal.Signals(-code).name}"
            raise self.failed(what, how)
        return "" if said is None else said.decode(errors="replace")

    def program(self, name: str) -> str | None:
        """Return the path of a program that the build would call."""
        return shutil.which(name, path=self.variables.get("PATH", os.defpath))

    def failed(self, what: str, how: str) -> BuildError:
        """Return the error of a step that failed, with the end of the log."""
        lines = [line for line in tail(self.log, 400) if line.strip()]
        begun = [place for place, line in enumerate(lines) if line.startswith(_BEGINS)]
        lines = lines[begun[-1] + 1 if begun else 0 :][-_LINES:]
        said = hidden("\n".join(f"  | {line[:500]}" for line in lines), self.secrets)
        if any(words in said for words in _FULL):
            what, how = f"{what} failed", f"the file system of {self.log.parent.parent} is full"
            return BuildError(
                f"{what}: {how} ({_free(self.log)}).\n{said}",
                "Make room there, or name another folder: environments.store in the site file.",
            )
        away = any(words in said for words in _NO_NETWORK)
        return BuildError(
            f"{what} failed: {how}. The last lines of its log:\n{said}",
            f"{os.uname().nodename} does not reach the packages' index. Build where there is a "
            "network (environments.build_on: login), or say in the site file where packages are: "
            "environments.index_url, channels, proxy, or find_links with offline: true."
            if away
            else None,
        )


def _end(child: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        child.kill()
    child.wait()


_prctl = ctypes.CDLL(None).prctl


def _die_with_us() -> None:
    """Let a child end when its parent is killed: nothing goes on in a folder that nobody owns."""
    _prctl(_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def _free(path: Path) -> str:
    try:
        found = os.statvfs(path.parent)
    except OSError:
        return "nothing is known of what is free"
    return f"{found.f_bavail * found.f_frsize / 1e6:.0f} MB are free now"
