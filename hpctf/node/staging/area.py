"""hpctf's folder on a node's own disk: the person's alone, with what runs have copied there.

``<root>/hpctf-<uid>/jobs/<job>/`` is one job's: its copies, or links to those in ``kept/``, and the
file ``.held``, which the job's processes on the node hold a lock on. What no process holds is of a
job that was killed, and goes when the next one comes. ``kept/<key>/`` has a copy that stays.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import time

from hpctf.errors import StagingError

TYPE_CHECKING = False  # not typing's: importing it costs each rank 8 ms
if TYPE_CHECKING:
    from collections.abc import Mapping

IMAGE, ROOT = ".image", ".environment"
"""In a job's folder: the training environment's image, or what was unpacked of it; and where the
image is mounted. No input has such a name."""

HELD = ".held"
TAKEN = ".taken"
"""Files of a job's folder: who locks the first uses it; the second says that ranks have come."""

_PATIENCE_S = 3600.0
"""Seconds that a job's ranks may take to come once its copies are made, when nobody holds them."""

_DEFAULT = "$TMPDIR"


class NoPlace(StagingError):
    """A node has no room for copies, or no folder for them."""


def root_of(folder: str, env: Mapping[str, str]) -> str:
    """Return where a site wants copies to lie on this node.

    Raises
    ------
    NoPlace
        A variable in it is not set here, or the folder does not exist.
    """
    if folder == _DEFAULT and not env.get("TMPDIR"):
        return "/tmp"
    root = _expanded(folder, env)
    where = f"staging.folder is {folder!r}, but on node {os.uname().nodename}"
    if "$" in root:
        raise NoPlace(f"{where} a variable of it is not set.", _FOLDER)
    if not os.path.isdir(root):
        raise NoPlace(f"{where} {root!r} is not a folder.", _FOLDER)
    return root


def _expanded(folder: str, env: Mapping[str, str]) -> str:
    """Return a path with variables of `env`; one that is not set stays as it is."""
    import re

    def value(match: re.Match[str]) -> str:
        return env.get(match[1] or match[2]) or match[0]

    return re.sub(r"\$(?:(\w+)|\{(\w+)\})", value, folder)


_FOLDER = "Name a folder that every node has: staging.folder in the site file, or --set."


class Area:
    """The person's folder below a root, made if it is not there.

    Raises
    ------
    NoPlace
        It cannot be made, or is somebody else's.
    """

    def __init__(self, root: str) -> None:
        self.path = os.path.join(root, f"hpctf-{os.geteuid()}")
        self.jobs = os.path.join(self.path, "jobs")
        self.kept = os.path.join(self.path, "kept")
        try:
            with contextlib.suppress(FileExistsError):
                os.mkdir(self.path, 0o700)
            found = os.lstat(self.path)  # a link may lead into somebody else's
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.geteuid():
                if stat.S_IMODE(found.st_mode) != 0o700:
                    os.chmod(self.path, 0o700)
                for folder in (self.jobs, self.kept):
                    os.makedirs(folder, 0o700, exist_ok=True)
                return
        except OSError as error:
            raise NoPlace(
                f"{self.path!r} on node {os.uname().nodename} cannot be made: {error.strerror}.",
                _FOLDER,
            ) from None
        raise NoPlace(
            f"{self.path!r} on node {os.uname().nodename} is not a folder of yours.",
            "Ask an administrator to remove it, or choose another folder: staging.folder.",
        )

    def free(self) -> tuple[int, int]:
        """Return how many bytes and how many files there is room for."""
        found = os.statvfs(self.path)
        files = found.f_favail if found.f_files else 1 << 62
        return found.f_bavail * found.f_frsize, files

    def sweep(self) -> None:
        """Remove what jobs have left that are no longer there."""
        for name in os.listdir(self.jobs):
            with Held(os.path.join(self.jobs, name)) as job:
                if job.is_left():
                    job.remove()
        for name in os.listdir(self.kept):
            if name.startswith("."):  # a copy that was cut short: whoever copies holds the lock
                remove_tree(os.path.join(self.kept, name))

    def in_use(self) -> set[str]:
        """Return the keys of the kept copies that jobs on this node have links to."""
        found = set()
        for job in os.listdir(self.jobs):
            with contextlib.suppress(OSError):
                for entry in os.scandir(os.path.join(self.jobs, job)):
                    if entry.is_symlink():
                        found.add(os.path.basename(os.readlink(entry.path)))
        return found

    def evict(self, bytes_: int, files: int) -> None:
        """Remove kept copies that no job uses, those first that were used last long ago, until
        there is room for so much."""
        used = self.in_use()
        idle = [name for name in os.listdir(self.kept) if name not in used]
        idle.sort(key=lambda name: os.stat(os.path.join(self.kept, name)).st_mtime)
        for name in idle:
            room, more = self.free()
            if room >= bytes_ and more >= files:
                return
            remove_tree(os.path.join(self.kept, name))


class Held:
    """A job's folder on this node, and a lock that says whether processes of its use it."""

    def __init__(self, folder: str) -> None:
        self.folder = folder
        self._descriptor: int | None = None

    def __enter__(self) -> Held:
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def hold(self) -> None:
        """Say that this process uses the folder, until it ends or releases it."""
        self._open()
        if self._descriptor is not None:
            with contextlib.suppress(OSError):  # a file system without locks
                fcntl.flock(self._descriptor, fcntl.LOCK_SH)

    def release(self) -> None:
        """Use it no longer."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def is_mine_alone(self) -> bool:
        """Whether no other process uses it."""
        self._open()
        if self._descriptor is None:
            return True
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def is_left(self) -> bool:
        """Whether its job is gone: nobody uses it, and its ranks have come, or come no more."""
        if not self.is_mine_alone():
            return False
        try:
            age = time.time() - os.stat(self.folder).st_mtime
        except OSError:
            return False
        return os.path.exists(os.path.join(self.folder, TAKEN)) or age > _PATIENCE_S

    def remove(self) -> None:
        """Remove the folder; what its links lead to stays."""
        place = os.path.join(self.folder, ROOT)
        if os.path.lexists(place):
            from hpctf.node.staging.mounting import unmount

            if not unmount(place):
                return
        remove_tree(self.folder)

    def _open(self) -> None:
        if self._descriptor is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
            with contextlib.suppress(OSError):
                self._descriptor = os.open(os.path.join(self.folder, HELD), flags, 0o600)


def remove_tree(path: str) -> None:
    """Remove a folder and all in it, also where a folder in it was made read-only; what cannot be
    removed stays, and so does what a link leads to."""
    if os.path.islink(path):
        return
    from pathlib import Path

    from hpctf.common import folders

    with contextlib.suppress(OSError):
        folders.remove_tree(Path(path))
