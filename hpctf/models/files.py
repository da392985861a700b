"""A model's files: how they are taken over, and whether they are still what was registered."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

from hpctf.common.files import follow_umask, make_folder
from hpctf.common.folders import remove_tree
from hpctf.common.numbered import hidden_name
from hpctf.errors import UnreadableModel, UsageError
from hpctf.models.record import File, Record
from hpctf.models.sources import Source, below, opened

FILES = "files"
"""Folder of a version's, in which the model's file or folder lies."""

_CHUNK = 1 << 20


def take_over(source: Source, into: Path, umask: int) -> dict[str, File]:
    """Copy or link a model's files into a version's folder, and return what they are.

    Raises
    ------
    UsageError
        A file changes meanwhile.
    OSError
        The file system refuses.
    """
    top = into / FILES
    make_folder(top, umask)
    for name in sorted({str(Path(name).parent) for name in source.files} - {"."}):
        _make_folders(top, name, umask)
    return {
        name: _take(path, top / name, umask, source.may_link)
        for name, path in sorted(source.files.items())
    }


def _make_folders(top: Path, name: str, umask: int) -> None:
    for part in [*reversed(Path(name).parents), Path(name)]:
        if not (top / part).is_dir():
            make_folder(top / part, umask)


def _take(source: Path, target: Path, umask: int, may_link: bool) -> File:
    if may_link and _may_be_linked(source, umask):
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError:
            pass  # another file system, or one without hard links
        else:
            with open(target, "rb") as linked:
                return _whole(source, linked, lambda block: None)
    with opened(source) as stream, open(target, "xb") as copy:
        found = _whole(source, stream, copy.write)
        copy.flush()
        os.fsync(copy.fileno())
    follow_umask(target, umask)
    return found


def _may_be_linked(source: Path, umask: int) -> bool:
    """Whether a file is the person's own, and has the mode that its copy would have.

    The file of somebody else stays theirs to change; and a link's mode is that of both.
    """
    found = source.lstat()
    mode = stat.S_IMODE(found.st_mode)
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and mode == 0o666 & ~umask


def _whole(source: Path, stream: BinaryIO, write: Callable[[bytes], object]) -> File:
    """Read a file to its end, and return what it is; one that changes meanwhile is refused."""
    before = os.fstat(stream.fileno())
    digest = hashlib.sha256()
    size = 0
    while block := stream.read(_CHUNK):
        digest.update(block)
        write(block)
        size += len(block)
    after = os.fstat(stream.fileno())
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, size):
        raise UsageError(
            f"{str(source)!r} was written while it was registered: no version was made.",
            "Register the model once the run has ended: hpctf wait RUN",
        )
    return File(size, digest.hexdigest())


def verify(folder: Path, record: Record) -> Path:
    """Return the path of a version's file or folder, once its files are what was registered.

    Raises
    ------
    UnreadableModel
        A file is missing, is one too many, or has changed.
    """
    top = folder / FILES
    _check_names(folder, record)
    for name, wanted in record.files.items():
        _check_file(folder, name, wanted, lambda block: None)
    return top / record.path


def copy_out(folder: Path, record: Record, to: Path, exist_ok: bool = False) -> Path:
    """Copy a version's file or folder into a folder, verified, and return where it lies now.

    Nothing is there under its name before all of it is.

    Raises
    ------
    UsageError
        Something of that name is there, and `exist_ok` is not set.
    UnreadableModel
        A file is not what was registered.
    """
    target = to / record.path
    if os.path.lexists(target) and not exist_ok:
        raise UsageError(
            f"{str(target)!r} exists already.", "Pass --force (exist_ok=True) to replace it."
        )
    _check_names(folder, record)
    to.mkdir(parents=True, exist_ok=True)
    beside = to / hidden_name()
    beside.mkdir()
    try:
        for name, wanted in record.files.items():
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            with open(beside / name, "xb") as copy:
                _check_file(folder, name, wanted, copy.write)
        _put(beside / record.path, target)
    finally:
        remove_tree(beside)
    return target


def _put(made: Path, target: Path) -> None:
    """Put a file or folder in the place of what is there, file by file in a folder that is."""
    if not made.is_dir() or not os.path.lexists(target):
        os.replace(made, target)
        return
    for file in below(made):
        place = target / file.relative_to(made)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, place)


def _check_names(folder: Path, record: Record) -> None:
    """Check that a version has the files of its record and no others; links are none."""
    found = set()
    top = str(folder / FILES)
    for place, folders, names in os.walk(top):
        linked = [name for name in folders if os.path.islink(os.path.join(place, name))]
        found |= {os.path.relpath(os.path.join(place, name), top) for name in [*names, *linked]}
    for name in sorted(record.files.keys() ^ found):
        raise _changed(folder, name, "is missing" if name in record.files else "was put there")


def _check_file(folder: Path, name: str, wanted: File, write: Callable[[bytes], object]) -> None:
    path = folder / FILES / name
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        stream = os.fdopen(os.open(path, flags), "rb")
    except OSError as error:
        raise _changed(folder, name, f"cannot be read ({error.strerror})") from None
    with stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise _changed(folder, name, "is no longer a file")
        if found.st_size != wanted.bytes:
            raise _changed(folder, name, f"has {found.st_size} bytes, not {wanted.bytes}")
        digest = hashlib.sha256()
        while block := stream.read(_CHUNK):
            digest.update(block)
            write(block)
    if digest.hexdigest() != wanted.sha256:
        raise _changed(folder, name, "has other content (SHA-256)")


def _changed(folder: Path, name: str, how: str) -> UnreadableModel:
    return UnreadableModel(
        f"Model {folder.parent.name}:{folder.name} is not what was registered: its file {name!r} "
        f"{how}.",
        f"Register it again, and remove this version: hpctf models rm "
        f"{folder.parent.name}:{folder.name}",
    )


def free(folder: Path) -> None:
    """Remove all that a version's folder holds but what says that it was removed."""
    for path in folder.iterdir():
        if path.name != REMOVED:
            if path.is_dir() and not path.is_symlink():
                remove_tree(path)
            else:
                path.unlink()


REMOVED = "removed.json"
"""What is left of a version that was removed: its number is never given to another one."""
