"""Unpacking a run's archive, which somebody else may have made: nothing leaves its folder."""

from __future__ import annotations

import contextlib
import gzip
import os
import stat
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Protocol

from hpctf.common.folders import remove_tree
from hpctf.errors import UsageError, shown
from hpctf.run_folder.layout import check_name
from hpctf.run_folder.ownership import SEAL

RESTORING = ".restoring-"
"""What the name of a folder begins with that is being brought back."""

_PERMISSIONS = 0o777
_CHUNK = 1 << 20


class Readable(Protocol):
    """What gzip reads from."""

    def read(self, size: int = -1, /) -> bytes: ...


def experiment_and_id(file: Path, stream: BinaryIO) -> tuple[str, str]:
    """Return what the archive calls its run: the experiment's name and the run's id.

    Raises
    ------
    UsageError
        It is no archive of a run.
    """
    with tarfile.open(fileobj=stream, mode="r:gz") as tar:
        first = tar.next()
    parts = first.name.split("/") if first is not None and first.isdir() else []
    if len(parts) != 2 or parts[1] in ("", ".", "..") or parts[1].startswith("."):
        raise UsageError(f"{str(file)!r} is no archive of a run: hpctf archive makes them.")
    return check_name("experiment", parts[0]), parts[1]


@contextlib.contextmanager
def read_through(stream: Readable) -> Iterator[tarfile.TarFile]:
    """Open an archive and, afterwards, read what is left of it: gzip's checksum comes last."""
    with gzip.open(stream, "rb") as unzipped:  # type: ignore[call-overload]
        with tarfile.open(fileobj=unzipped, mode="r:") as tar:
            yield tar
        while unzipped.read(_CHUNK):
            pass


def without_seal(member: tarfile.TarInfo) -> tarfile.TarInfo | None:
    """Return a member of an archive, but None for the run's seal: it would be anybody's."""
    return None if member.name.split("/")[2:] == [SEAL] else member


def unpack(stream: Readable, folder: Path) -> None:
    """Bring a run's folder back: whole, or not at all.

    Raises
    ------
    UsageError
        The archive holds what no run's does.
    """
    beside = folder.with_name(f"{RESTORING}{folder.name}")
    made = not folder.parent.exists()
    folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    remove_tree(beside)  # somebody was interrupted
    beside.mkdir(mode=0o700)
    try:
        with read_through(stream) as tar:
            # Whoever made it says what its links lead to; what is below them is ours to refuse.
            tar.extraction_filter = lambda member, _: member
            tar.extractall(beside, members=_within(tar, f"{folder.parent.name}/{folder.name}"))
        os.rename(beside / folder.parent.name / folder.name, folder)
    finally:
        with contextlib.suppress(OSError):
            remove_tree(beside)
            if made and not os.path.lexists(folder):
                folder.parent.rmdir()
    if made:
        os.chmod(folder.parent, stat.S_IMODE(folder.stat().st_mode))


def _within(tar: tarfile.TarFile, top: str) -> Iterator[tarfile.TarInfo]:
    """Yield the members: each lies in a folder of the archive's own, and has a name of its own."""
    folders: set[str] = set()
    files: set[str] = set()
    seen: set[str] = set()
    for member in tar:
        above, _, name = member.name.rpartition("/")
        if member.name in seen or name in ("", ".", ".."):
            raise _strange(member)
        if above not in folders and not (member.name == top and member.isdir()):
            raise _strange(member)
        if member.isdir():
            folders.add(member.name)
            member.mode &= _PERMISSIONS | stat.S_ISGID  # which hands a group's folder down
        elif member.isreg() or (member.islnk() and member.linkname in files):
            files.add(member.name)
            member.mode &= _PERMISSIONS
        elif not member.issym() and not member.isfifo():
            raise _strange(member)
        seen.add(member.name)
        if without_seal(member) is not None:
            yield member


def _strange(member: tarfile.TarInfo) -> UsageError:
    return UsageError(
        f"The archive holds {shown(member.name)}, which is not of a run: nothing was unpacked.",
        "Restore only archives that hpctf archive made.",
    )
