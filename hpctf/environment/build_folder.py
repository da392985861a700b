"""One attempt at building an environment: its folders, who makes it, and whether they still do.

``<store>/<key>/<build id>/`` is the environment to be, ``<build id>.work/`` what building it needs:
who builds (``builder.json``, touched again and again while they do), the log, and files for the
tools. Both go away unless the environment is finished; a killed builder's are swept by the next.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from hpctf.common import folders
from hpctf.common.files import make_folder, read_json, write_json
from hpctf.common.locks import locked
from hpctf.common.processes import start_time, user_name
from hpctf.common.repeating import meanwhile
from hpctf.environment.progress import Tell
from hpctf.environment.store import CURRENT, Environment, Store
from hpctf.errors import BuildError

WORK = ".work"
BUILDER = "builder.json"
LOG = "build.log"
LOCK = "lock"
_TOUCH_S = 20.0
_SILENT_S = 900.0
"""A builder on another host that has not touched its file for so long is dead."""
_LOOK_S = 0.5
_SAY_S = 60.0


@dataclass(frozen=True)
class Attempt:
    """The folders of one attempt."""

    folder: Path

    @property
    def work(self) -> Path:
        return self.folder.with_name(self.folder.name + WORK)

    @property
    def log(self) -> Path:
        return self.work / LOG

    def discard(self) -> None:
        """Remove all of it; what is in use by a child that is not quite dead goes too."""
        for path in (self.folder, self.work):
            remove_tree(path)


def whoami() -> dict[str, Any]:
    """Return who builds, as others can look them up."""
    return {
        "user": user_name(),
        "host": os.uname().nodename,
        "pid": os.getpid(),
        "start": start_time(os.getpid()),
        "since": time.time(),
    }


def described(who: dict[str, Any]) -> str:
    """Return ``alice on login1 (pid 4711, since 14:03:22)``."""
    since = time.strftime("%H:%M:%S", time.localtime(float(who.get("since", 0))))
    return f"{who.get('user')} on {who.get('host')} (pid {who.get('pid')}, since {since})"


@contextlib.contextmanager
def attempt(key_folder: Path, umask: int) -> Iterator[Attempt]:
    """Make an attempt's work folder and keep it alive; nothing is left after an error."""
    name = f"{time.strftime('%Y%m%d-%H%M%S')}-{os.urandom(4).hex()}"
    made = Attempt(key_folder / name)
    try:
        make_folder(made.work, umask)
        write_json(made.work / BUILDER, whoami(), 0o666 & ~umask)
        # Other hosts see by that that we are alive.
        with meanwhile(partial(_touch, made.work / BUILDER), _TOUCH_S):
            yield made
    except BaseException:
        with contextlib.suppress(BuildError):  # what went wrong before is what there is to tell
            made.discard()
        raise
    remove_tree(made.work)


def _touch(path: Path) -> bool:
    with contextlib.suppress(OSError):
        os.utime(path)
    return True


@contextlib.contextmanager
def alone(key_folder: Path, umask: int, tell: Tell) -> Iterator[None]:
    """Hold a key's lock, after waiting for who holds it; the system frees a dead holder's.

    Where the file system has no locks the builders go on side by side: the link decides.
    """
    said, when = "", 0.0

    def wait(descriptor: int) -> None:
        nonlocal said, when
        holder = _holder(descriptor)
        if holder != said or time.monotonic() - when > _SAY_S:
            tell(f"Waiting for {holder}, who builds the same environment")
            said, when = holder, time.monotonic()
        time.sleep(_LOOK_S)

    with locked(key_folder / LOCK, umask, wait) as descriptor:
        if descriptor is not None:
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, json.dumps(whoami()).encode(), 0)
        yield


def _holder(descriptor: int) -> str:
    try:
        return described(json.loads(os.pread(descriptor, 4096, 0)))
    except ValueError:
        return "somebody"


def sweep(key_folder: Path) -> list[str]:
    """Remove what dead builders and cut-off removals have left of a key; return the build ids."""
    swept = []
    try:
        current = os.readlink(key_folder / CURRENT)
    except OSError:
        current = ""
    for path in sorted(key_folder.glob("*-*-*")):
        name = path.name.removesuffix(WORK)
        if name == current or not path.is_dir() or path.is_symlink():
            if name == current and path.name.endswith(WORK) and not _alive(path):
                remove_tree(path)  # killed between the link and this
            continue
        if _alive(path.with_name(name + WORK)):
            continue
        remove_tree(path)
        if name not in swept:
            swept.append(name)
    return swept


def builders(key_folder: Path) -> list[dict[str, Any]]:
    """Return who is building a key now."""
    works = sorted(key_folder.glob(f"*{WORK}"))
    return [read_json(work / BUILDER) for work in works if _alive(work)]


def _alive(work: Path) -> bool:
    try:
        who = read_json(work / BUILDER)
        age = time.time() - os.stat(work / BUILDER).st_mtime
    except (OSError, ValueError):
        # Made a moment ago and not signed yet, or else forsaken.
        try:
            return time.time() - os.stat(work).st_mtime < _TOUCH_S
        except OSError:
            return False
    if who.get("host") == os.uname().nodename:
        return bool(start_time(int(who.get("pid", 0))) == who.get("start"))
    return age < _SILENT_S


def remove_tree(path: Path) -> None:
    """Remove a folder at once for everybody who looks, and then from the disk.

    Raises
    ------
    BuildError
        It cannot be removed.
    """
    if not os.path.lexists(path):
        return
    gone = path.with_name(f".removed-{os.urandom(4).hex()}-{path.name}")
    try:
        os.rename(path, gone)
        folders.remove_tree(gone)
    except OSError as error:
        raise BuildError(
            f"{str(path)!r} cannot be removed: {error.strerror}.", "Ask its owner to remove it."
        ) from None


def remove(environment: Environment, store: Store) -> None:
    """Remove an environment: at once for those who look for it, then from the disk.

    A link in its place is removed, never what it leads to: nothing outside of the store is touched.

    Raises
    ------
    BuildError
        It is no folder of the store's, somebody builds it now, or it may not be removed.
    """
    folder = environment.folder
    if folder.parent != store.root or os.path.islink(folder):
        raise BuildError(
            f"{str(folder)!r} is no folder of the store {str(store.root)!r}.",
            "List the environments that are there: hpctf env list.",
        )
    at_work = builders(folder)
    if at_work:
        raise BuildError(
            f"Environment {environment.key} is being built by {described(at_work[0])}.",
            "Let it end, or end it there.",
        )
    link = folder / CURRENT
    try:
        build_id = os.readlink(link)
        os.unlink(link)
    except OSError as error:
        raise BuildError(
            f"{str(link)!r} cannot be removed: {error.strerror}.", "Ask its owner to remove it."
        ) from None
    if os.sep not in build_id and build_id not in (os.curdir, os.pardir):
        remove_tree(folder / build_id)
        for pattern in (f"{build_id}.*", f".{build_id}.*"):  # images: hpctf/environment/image.py
            for image in folder.glob(pattern):
                image.unlink(missing_ok=True)
    _drop_if_empty(folder)


def remove_stale(store: Store) -> list[str]:
    """Remove the half builds whose builders are gone; return their keys and build ids."""
    removed = []
    for folder in store.folders():
        if folder.is_symlink() or not os.access(folder, os.W_OK | os.X_OK):
            continue
        removed += [f"{folder.name}/{build_id}" for build_id in sweep(folder)]
        for gone in folder.glob(".removed-*"):
            remove_tree(gone)
        _drop_if_empty(folder)
    return removed


def _drop_if_empty(folder: Path) -> None:
    """Remove a key's folder that holds no more than its lock; who waits for that is told so."""
    if {entry.name for entry in os.scandir(folder)} - {LOCK}:
        return
    with contextlib.suppress(OSError):
        os.unlink(folder / LOCK)
        os.rmdir(folder)
