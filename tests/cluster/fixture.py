"""The ``cluster`` fixture: a real Slurm cluster on this machine.

Import the fixture into a ``conftest.py`` (``from .cluster.fixture import cluster``). It brings
the cluster up when the first test asks for it. Test processes (pytest-xdist's workers, or whole
pytest sessions side by side) share it, and the last one to end takes it down. A cluster that
stood before stays up, so ``tests/cluster/up`` beforehand saves the time.

Where no cluster can be had the tests skip, or fail if the environment variable ``CI`` is
``true``.
"""

from __future__ import annotations

import fcntl
import functools
import os
import pwd
import subprocess
import sys
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.forking import as_user
from tests.support.waiting import HANGS_S

TEST_USER = "hpctftest"
"""The ordinary user that ``tests/cluster/up`` makes."""

LEAST_NODES = 4
"""Tests may count on this many nodes."""

_HERE = Path(__file__).resolve().parent
_UP, _DOWN = 0, 1  # exit codes of `up --check`
_USER_PATH = "/usr/local/bin:/usr/bin:/bin"


class CommandFailed(subprocess.CalledProcessError):
    """A command on the cluster failed. Its message carries all the command printed."""

    def __str__(self) -> str:
        return f"{super().__str__()}\nstdout:\n{self.stdout}\nstderr:\n{self.stderr}"


@dataclass(frozen=True)
class Cluster:
    """A running test cluster.

    Attributes
    ----------
    nodes
        The nodes' names, in Slurm's order: ``("n1", "n2", ...)``.
    env
        What a program needs in its environment to reach the cluster, and to share its cores.
        Programs started by `run` get it anyway.
    directory
        The state directory: logs in ``logs/``, daemons' process ids in ``pids/``.
    shared
        A directory that every node sees and every user may write to. ``/tmp`` is neither:
        every node has its own.
    """

    nodes: tuple[str, ...]
    env: dict[str, str]
    directory: Path
    shared: Path

    def run(
        self,
        *command: str | Path,
        user: str | None = None,
        check: bool = True,
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = HANGS_S,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command on the submission host.

        Parameters
        ----------
        command
            The program and its arguments.
        user
            Who runs it: an ordinary user such as `TEST_USER`, with a plain ``PATH`` and their
            own ``HOME``. By default root, as the tests.
        check
            Raise if the exit code is not 0.
        cwd
            The working directory, by default `shared`: a job starts in it on every node.
        env
            More environment variables.
        timeout
            Seconds after which the command is killed.

        Raises
        ------
        CommandFailed
            If `check` is true and the exit code is not 0.
        subprocess.TimeoutExpired
            If it takes longer than `timeout`.
        """
        arguments = [*as_user(user), *(str(part) for part in command)]
        done = subprocess.run(
            arguments,
            env=self.environment(user, env),
            cwd=cwd or self.shared,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if check and done.returncode != 0:
            raise CommandFailed(done.returncode, arguments, done.stdout, done.stderr)
        return done

    def environment(
        self, user: str | None = None, env: Mapping[str, str] | None = None
    ) -> dict[str, str]:
        """Return the variables with which `run` runs a command."""
        environment = {key: value for key, value in os.environ.items() if key[:6] != "SLURM_"}
        if user is not None:
            home = pwd.getpwnam(user).pw_dir
            environment |= {"HOME": home, "USER": user, "LOGNAME": user, "PATH": _USER_PATH}
        return environment | self.env | dict(env or {})

    def node_command(self, node: str, *command: str) -> subprocess.CompletedProcess[str]:
        """Run a command in a node's network, outside Slurm, as root.

        The node's network only: host name, ``/tmp`` and all else are the submission host's.

        Raises
        ------
        CommandFailed
            If the exit code is not 0.
        """
        return self.run("nsenter", f"--net=/run/netns/hpctf-{node}", *command)

    def queue(self) -> list[str]:
        """Return what ``squeue`` lists: id, partition, name, user, state and reason or nodes."""
        return self.run("squeue", "--noheader", "--format=%i %P %j %u %T %R").stdout.splitlines()

    def wait_until_idle(self, timeout: float = HANGS_S) -> None:
        """Wait until the queue is empty and every node is idle.

        Raises
        ------
        TimeoutError
            If that takes longer than `timeout` seconds. The message shows the queue and nodes.
        """
        deadline = time.monotonic() + timeout
        while True:
            queue = self.queue()
            states = self.run("sinfo", "--noheader", "--Node", "--format=%N %t").stdout
            if not queue and all(line.endswith(" idle") for line in states.splitlines()):
                return
            if time.monotonic() > deadline:
                shown = "\n".join(queue)
                raise TimeoutError(f"not idle after {timeout} s:\n{shown}\n{states}")
            time.sleep(0.1)


def up(nodes: int | None = None, *, temporary: bool = False) -> Cluster:
    """Bring the cluster up, or repair the one that stands, and return it.

    Parameters
    ----------
    nodes
        The number of nodes; by default what stands, else 4.
    temporary
        If it does not stand yet, let test sessions take it down.

    Raises
    ------
    RuntimeError
        If it does not come up. The message says why and names the log.
    """
    options = [] if nodes is None else [f"--nodes={nodes}"]
    _script("up", *options, *(["--temporary"] if temporary else []))
    return standing()


def down() -> None:
    """Take the cluster down, whoever started it. Does nothing where none is up."""
    _script("down")


def is_up() -> bool:
    """Whether the cluster stands and all of it works."""
    return _check().returncode == _UP


@functools.cache
def available() -> str | None:
    """Return why this machine cannot run the cluster, or None if it can."""
    if not sys.platform.startswith("linux"):
        return f"the test cluster needs Linux, and this is {sys.platform}."
    check = _check()
    return None if check.returncode in (_UP, _DOWN) else check.stderr.strip()


@pytest.fixture(scope="session")
def cluster() -> Iterator[Cluster]:
    """Give the `Cluster` that all tests share: jobs of other tests may run on it meanwhile."""
    reason = available()
    if reason is not None:
        message = f"NO SLURM CLUSTER: {reason}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    with _shared_use():
        standing = up(temporary=True)
        if len(standing.nodes) < LEAST_NODES:
            pytest.fail(
                f"the cluster that stands has {len(standing.nodes)} nodes, but the tests need "
                f"{LEAST_NODES}. End it first: {_HERE / 'down'}"
            )
        yield standing
        for line in crashes(standing):
            warnings.warn(line, stacklevel=1)


def crashes(cluster: Cluster) -> list[str]:
    """Return what the logs say of slurmds that crashed and were started again."""
    logs = sorted((cluster.directory / "logs").glob("slurmd-*.out"))
    lines = [line for log in logs for line in log.read_text(errors="replace").splitlines()]
    return [line for line in lines if " crashed, signal " in line]


@contextmanager
def _shared_use() -> Iterator[None]:
    """Count as a user of the cluster; the last user out ends a temporary one.

    The count is a shared file lock, which the kernel also takes back from a process that died.
    """
    directory = _directory()
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (directory / "users.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        try:
            yield
        finally:
            if _becomes_only_user(lock.fileno()) and (directory / "temporary").exists():
                down()


@contextmanager
def use(*, alone: bool = False) -> Iterator[None]:
    """Use the cluster with other tests, none of which may break it, or alone.

    Who waits for it lets nobody pass: tests that share it, some of which always run, would else
    keep it for ever from one that wants it alone.
    """
    directory = _directory()
    directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    with (directory / "turn.lock").open("w") as turn:
        fcntl.flock(turn, fcntl.LOCK_EX)
        with (directory / "use.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
            fcntl.flock(turn, fcntl.LOCK_UN)
            yield


def _becomes_only_user(lock: int) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


_YIELDING = {"OMPI_MCA_mpi_yield_when_idle": "1"}
"""Jobs take it along: there are more ranks than cores, and MPI would spin where another computes,
which takes Horovod half as much processor time again."""


def _directory() -> Path:
    return Path(os.environ.get("HPCTF_CLUSTER_DIR", "/var/lib/hpctf-test-cluster"))


def standing() -> Cluster:
    """Return the cluster that stands."""
    directory = _directory()
    count = int((directory / "conf" / "node_count").read_text())
    return Cluster(
        nodes=tuple(f"n{number}" for number in range(1, count + 1)),
        env={"SLURM_CONF": str(directory / "conf" / "slurm.conf"), **_YIELDING},
        directory=directory,
        shared=directory / "shared",
    )


def _check() -> subprocess.CompletedProcess[str]:
    return subprocess.run([_HERE / "up", "--check"], capture_output=True, text=True)


def _script(name: str, *options: str) -> None:
    done = subprocess.run([_HERE / name, *options], capture_output=True, text=True, timeout=HANGS_S)
    if done.returncode != 0:
        raise RuntimeError(f"tests/cluster/{name} failed: {done.stderr.strip()}")
