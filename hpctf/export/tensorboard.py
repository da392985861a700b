"""TensorBoard on runs: what they have logged, and the event files that the runs wrote."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hpctf.common.files import tail
from hpctf.common.processes import user_name
from hpctf.common.signals import handling, interrupt
from hpctf.errors import ExportError, UsageError
from hpctf.export.event_files import EventFiles, find_python
from hpctf.run_folder.ownership import is_mine
from hpctf.runs.status.query import statuses
from hpctf.scheduler.programs import FOLDER, environment_of

if TYPE_CHECKING:
    from hpctf.run import Run

ROOMS = {"logs": "snapshot/logs", "outputs": "outputs"}
"""Where scripts write event files (`hpctf.tracking.tensorboard_events`), and its name here."""

_EVERYWHERE = ("127.0.0.1", "localhost", "0.0.0.0", "::")
"""Addresses that this machine reaches as localhost."""
_EVERY_S = 5.0
_TIMES = 20
"""How often as long as one reading of the journals took the next one waits: they grow."""
_START_S = 120.0
_GRACE_S = 5.0
_ENDINGS = (signal.SIGHUP, signal.SIGTERM)


def show(
    runs: Sequence[Run],
    host: str = "127.0.0.1",
    port: int | None = None,
    python: str | None = None,
    on_ready: Callable[[str, int], None] | None = None,
) -> None:
    """Run TensorBoard on runs until interrupted; what running ones log comes by and by.

    Parameters
    ----------
    port
        By default a free one.
    python
        A Python that has TensorBoard; by default hpctf's own, else one that the runs trained with.
    on_ready
        Called with host and port once it answers.

    Raises
    ------
    UsageError
        The port is taken, or no Python has TensorBoard.
    ExportError
        TensorBoard did not start, or ended.
    """
    chosen = _port(host, port)
    found = find_python(runs, python)
    # The end of the ssh connection and SIGTERM do what Ctrl-C does, unless nohup says otherwise.
    signs = [sign for sign in _ENDINGS if signal.getsignal(sign) is not signal.SIG_IGN]
    with (
        handling(dict.fromkeys(signs, interrupt)),
        tempfile.TemporaryDirectory(prefix="hpctf-tensorboard-") as name,
        EventFiles(found, Path(name) / "runs", of_events=True) as files,
    ):
        top = Path(name) / "runs"
        top.mkdir()
        files.add(runs)
        _link(runs, top)
        log = Path(name) / "tensorboard.log"
        with _tensorboard(found, top, host, chosen, log) as process:
            _wait(process, host, chosen, log)
            if on_ready:
                on_ready(host, chosen)
            _follow(runs, files, top, process, log)


def ssh_line(host: str, port: int) -> str:
    """Return what to type on one's own machine to see a port, bound to an address of this one."""
    bound = "localhost" if host in _EVERYWHERE else f"[{host}]" if ":" in host else host
    name = socket.getfqdn()
    login = socket.gethostname() if name.startswith("localhost") else name
    return f"ssh -N -L {port}:{bound}:{port} {user_name()}@{login}"


def _port(host: str, port: int | None) -> int:
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port or 0))
        except OSError as error:
            raise UsageError(
                f"Port {port} of {host} is not available: {error.strerror or error}.",
                "Name another one (--port), or none: a free one is taken then.",
            ) from None
        return int(probe.getsockname()[1])


def _link(runs: Sequence[Run], top: Path) -> None:
    """Link the rooms in which runs write event files, as far as they are there by now."""
    # Not those of somebody else's run: TensorBoard follows links, which may lead anywhere.
    for run in filter(lambda run: is_mine(run.folder.path), runs):
        for name, room in ROOMS.items():
            link, target = top / run.id / name, run.folder.path / room
            if target.is_dir() and not os.path.lexists(link):
                link.parent.mkdir(exist_ok=True)
                link.symlink_to(target)


@contextmanager
def _tensorboard(
    python: str, top: Path, host: str, port: int, log: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """Start TensorBoard in a session of its own, and end it with all that it has started."""
    words = ["--logdir", str(top), "--host", host, "--port", str(port), "--reload_interval", "5"]
    with log.open("wb") as stream:
        process = subprocess.Popen(
            [python, "-I", "-m", "tensorboard.main", *words],
            env=environment_of("python"),
            cwd=FOLDER,
            stdin=subprocess.DEVNULL,
            stdout=stream,
            stderr=stream,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    for sign in (signal.SIGTERM, signal.SIGKILL):
        try:
            os.killpg(process.pid, sign)  # its data server is in the same session
            process.wait(_GRACE_S)
        except (ProcessLookupError, subprocess.TimeoutExpired):
            continue
    process.wait()


def _wait(process: subprocess.Popen[bytes], host: str, port: int, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        _check(process, log)
        try:
            with urllib.request.urlopen(f"http://{host}:{port}/data/environment", timeout=5):
                return
        except OSError:
            time.sleep(0.2)
    raise ExportError(f"TensorBoard did not answer within {_START_S:.0f} s.", _last(log))


def _follow(
    runs: Sequence[Run], files: EventFiles, top: Path, process: subprocess.Popen[bytes], log: Path
) -> None:
    """Add what runs log that are not over, until interrupted."""
    going = list(runs)
    while True:
        states = statuses(run.folder for run in going)
        began = time.monotonic()
        files.add(going)
        took = time.monotonic() - began
        _link(going, top)
        going = [run for run in going if not states[run.id].final]
        try:
            process.wait(max(_EVERY_S, _TIMES * took))
        except subprocess.TimeoutExpired:
            continue
        _check(process, log)


def _check(process: subprocess.Popen[bytes], log: Path) -> None:
    if process.poll() is not None:
        raise ExportError(f"TensorBoard ended with exit code {process.returncode}.", _last(log))


def _last(log: Path) -> str:
    return "\n  ".join(tail(log, 5)) or "It said nothing."
