"""Whose a run is: the user's own only if this user's hpctf has submitted it.

What a run's record says of its user is text that anybody can write, and files that were copied or
unpacked belong to whoever did that. So a run that is submitted is sealed: ``seal`` in its folder
holds a code that only a key of the user's makes, which lies in their private folder
(``~/.local/state/hpctf/key``). The seal is readable by the user alone whatever the site's umask,
so that nobody can put it into a run of theirs; archives leave it out, and are signed instead.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import stat
from pathlib import Path
from typing import BinaryIO

from hpctf.client.hpctf.within import is_readable_within, open_file
from hpctf.common.files import PRIVATE_FILE, tail, write_atomic
from hpctf.common.folders import private_folder
from hpctf.common.processes import name_of_user
from hpctf.errors import RunFolderError

SEAL = "seal"
"""File of a run folder."""

OTHERS_WRITE = stat.S_IWGRP | stat.S_IWOTH

_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_KEY_BYTES = 32


def seal(folder: Path) -> None:
    """Seal a run that the user has submitted, or that came from an archive signed by them.

    Without a private folder to keep the key in there is no seal: the run is read, but nothing of
    it is executed.
    """
    key = _key(make=True)
    if key is not None:
        write_atomic(folder / SEAL, _code(key, folder.name), PRIVATE_FILE)


def is_mine(folder: str | os.PathLike[str]) -> bool:
    """Return whether a run is the user's own: they submitted it, and nobody else may write it."""
    return why_not_mine(folder) is None


def why_not_mine(folder: str | os.PathLike[str]) -> str | None:
    """Return why a run is not the user's own, to follow its name; None if it is."""
    path = Path(os.path.realpath(folder))
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        return f"cannot be read ({error.strerror})"
    try:
        found = os.fstat(descriptor)
        if found.st_uid != os.geteuid():
            return f"belongs to {name_of_user(found.st_uid)}"
        if found.st_mode & OTHERS_WRITE:
            return f"may be written by others (mode {stat.S_IMODE(found.st_mode):o})"
        return None if is_sealed(descriptor, path.name) else "was not submitted by you"
    finally:
        os.close(descriptor)


def owner_of(folder: str | os.PathLike[str]) -> str | None:
    """Return whose a run's folder is, if not the user's own."""
    owner = os.stat(folder).st_uid
    return None if owner == os.geteuid() else name_of_user(owner)


def is_sealed(folder: int, run_id: str) -> bool:
    """Return whether the run of that id, whose folder is open, has the user's seal."""
    key, found = _key(), _private(SEAL, folder)
    return key is not None and found is not None and hmac.compare_digest(found, _code(key, run_id))


def require_mine(folder: Path, what: str) -> None:
    """Refuse to run what lies in a run that is not the user's own; `what` begins a sentence about
    it: ``its code``."""
    why = why_not_mine(folder)
    if why is not None:
        raise RunFolderError(
            f"Run {folder.name} {why}: {what} would run as you.",
            f"Look at it first: {str(folder)!r}. If you trust it, pass --trust (trust=True).",
        )


def signature(digest: bytes) -> bytes | None:
    """Return the user's code for an archive of that digest; None without a key."""
    key = _key(make=True)
    return None if key is None else hmac.new(key, b"archive\0" + digest, hashlib.sha256).digest()


def open_of_run(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a file of a run; in the user's own run their links lead where they like."""
    return open_file(path, is_mine)


def own_target(path: Path, run_folder: Path) -> Path:
    """Return where a link in the user's own run leads, such as that to its environment's build's
    log in the store; what lies in anybody else's run stays as it is named."""
    return Path(os.path.realpath(path)) if path.is_symlink() and is_mine(run_folder) else path


def end_of_log(log: Path, run_folder: Path, lines: int) -> list[str]:
    """Return the last lines of a run's log, or of what `own_target` has it lead to."""
    return tail(own_target(log, run_folder), lines)


def has_file(path: str | os.PathLike[str]) -> bool:
    """Return whether a run has a file that `open_of_run` opens."""
    return is_readable_within(path, is_mine)


def _code(key: bytes, run_id: str) -> bytes:
    return hmac.new(key, b"run\0" + os.fsencode(run_id), hashlib.sha256).hexdigest().encode()


def _key(make: bool = False) -> bytes | None:
    """Return the user's key; None if there is none, or others could have read or written it."""
    folder = private_folder()
    if folder is None:
        return None
    if make and not os.path.lexists(folder / "key"):
        with contextlib.suppress(OSError):
            _make_key(folder)
    return _private(folder / "key")


def _make_key(folder: Path) -> None:
    """Make the key, whole or not at all; the first of several hpctf that do so at once wins."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = folder / f"key.{os.urandom(6).hex()}.tmp"
    write_atomic(fresh, os.urandom(_KEY_BYTES).hex(), PRIVATE_FILE)
    try:
        os.link(fresh, folder / "key")
    finally:
        fresh.unlink()


def _private(path: str | os.PathLike[str], folder: int | None = None) -> bytes | None:
    """Return the content of a small file of the user's that nobody else can read."""
    try:
        descriptor = os.open(path, _READ, dir_fd=folder)
    except OSError:
        return None
    with os.fdopen(descriptor, "rb") as stream:
        found = os.fstat(descriptor)
        private = found.st_uid == os.geteuid() and not found.st_mode & _OTHERS
        return stream.read(2 * _KEY_BYTES) if stat.S_ISREG(found.st_mode) and private else None
