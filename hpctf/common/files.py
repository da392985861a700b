"""Writing files that are whole or absent, and one-line appends: the run folder's two ways.

Standard library only, and little of it: every rank of every job imports this module before its
training starts.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import stat

from hpctf.errors import RunFolderError

TYPE_CHECKING = False  # not typing's: importing it costs each rank 8 ms
if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import Any, BinaryIO

    StrPath = str | os.PathLike[str]
    _reader: Callable[[StrPath], BinaryIO] | None

PRIVATE_FILE = 0o600
PRIVATE_UMASK = 0o077

_ANYBODY = 0o777
_BLOCK = 1 << 20
_reader = None


def make_folder(path: StrPath, umask: int = PRIVATE_UMASK) -> None:
    """Make a folder with the permissions that `umask` leaves, whatever this process's own is."""
    os.mkdir(path, _ANYBODY & ~umask)
    follow_umask(path, umask)


def follow_umask(path: StrPath, umask: int) -> None:
    """Give a file or folder the permissions that it would have if made under `umask`.

    What a group's folder hands down (the set-group-ID bit, inode(7)) stays.
    """
    found = os.stat(path).st_mode
    most = _ANYBODY if stat.S_ISDIR(found) or found & stat.S_IXUSR else 0o666
    wanted = stat.S_IMODE(found) & ~_ANYBODY | most & ~umask
    if stat.S_IMODE(found) != wanted:
        os.chmod(path, wanted)


def follow_umask_below(top: StrPath, umask: int) -> None:
    """Do `follow_umask` for a folder and all in it; what its links lead to stays as it is."""
    for folder, _, files in os.walk(top):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            if not os.path.islink(path):
                follow_umask(path, umask)


def mode_beside(path: StrPath) -> int:
    """Return the mode of a new file: as open as its folder, or private in somebody else's folder.

    So what is written into a run later follows the umask that its folder was made with.
    """
    folder = os.stat(os.path.dirname(os.fspath(path)) or os.curdir)
    return folder.st_mode & 0o666 if folder.st_uid == os.geteuid() else PRIVATE_FILE


def share_as_folder(descriptor: int, folder: str) -> None:
    """Give an open file of ours the group and the mode of its folder, which is a run's.

    Somebody of a group may look at a run before its owner does: what they keep of it there must be
    the owner's to read and to replace. What root writes is the owner's. Raises `PermissionError` if
    the folder's owner could not read the file.
    """
    found, me = os.stat(folder or os.curdir), os.geteuid()
    if found.st_uid == me:
        with contextlib.suppress(OSError):  # of a group that the person has left
            os.fchown(descriptor, -1, found.st_gid)
    elif me == 0:
        os.fchown(descriptor, found.st_uid, found.st_gid)
    else:
        os.fchown(descriptor, -1, found.st_gid)
        if not found.st_mode & stat.S_IRGRP or not _is_member(found.st_uid, found.st_gid):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM), folder)
    os.fchmod(descriptor, found.st_mode & 0o666)


def _is_member(user: int, group: int) -> bool:
    import pwd

    try:
        entry = pwd.getpwuid(user)
        return group in os.getgrouplist(entry.pw_name, entry.pw_gid)
    except (KeyError, OSError):
        return False


def write_atomic(
    path: StrPath,
    data: bytes | str,
    mode: int | None = None,
    *,
    shared: bool = False,
    durable: bool = True,
) -> None:
    """Write `data` so that a reader sees the old file or the whole new one, never a part.

    The temporary file lies beside `path` (rename is atomic within one file system only) and is
    flushed to disk before the rename if the file is to be `durable`. `mode` is `mode_beside`'s
    unless given; a `shared` file is made by `share_as_folder` instead.
    """
    target = os.fspath(path)
    mode = PRIVATE_FILE if shared else mode_beside(target) if mode is None else mode
    temporary = f"{target}.{os.urandom(6).hex()}.tmp"
    payload = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    try:
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(payload)
            stream.flush()
            if shared:
                share_as_folder(stream.fileno(), os.path.dirname(target))
            else:
                os.fchmod(stream.fileno(), mode)
            if durable:
                os.fsync(stream.fileno())
        os.rename(temporary, target)
    except BaseException:
        _remove(temporary)
        raise


def _remove(path: str) -> None:
    with contextlib.suppress(OSError):  # what went wrong before is what there is to tell
        os.unlink(path)


def write_json(path: StrPath, value: Any, mode: int | None = None, *, shared: bool = False) -> None:
    """Write `value` as indented JSON, atomically, as `write_atomic` does."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=True) + "\n", mode, shared=shared)


def _open(path: StrPath) -> BinaryIO:
    if _reader is not None:
        return _reader(path)
    return open(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY), "rb")


def read_with(reader: Callable[[StrPath], BinaryIO]) -> None:
    """Have files opened for reading by a function from now on, as `open` would for bytes.

    The login side, which reads other people's runs, has one (`hpctf.client.hpctf.within`). A rank
    reads its own run's, and has no time to load it.
    """
    global _reader
    _reader = reader


MOST_BYTES = 64 << 20
"""Bytes of the largest JSON document that is read."""


def read_whole(path: StrPath, *, follow: bool = True) -> bytes:
    """Return the bytes of a document.

    Raises
    ------
    OSError
        It cannot be opened, or is a link that is not to be followed.
    ValueError
        It is not a file (a named pipe would never end), or larger than `MOST_BYTES`.
    """
    if not follow and os.path.islink(path):
        raise OSError(errno.ELOOP, "it is a link", os.fspath(path))
    with _open(path) as stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise ValueError("it is not a file")
        if found.st_size > MOST_BYTES:
            raise ValueError(f"it has {found.st_size} bytes, more than {MOST_BYTES}")
        return stream.read(MOST_BYTES)


def same_bytes(one: BinaryIO, other: BinaryIO) -> bool:
    """Whether what is left of two files is the same."""
    while True:
        block = one.read(_BLOCK)
        if block != other.read(_BLOCK):
            return False
        if not block:
            return True


def read_json(path: StrPath, *, follow: bool = True) -> Any:
    """Read one JSON document, as `read_whole` does; `ValueError` says, too, that it is not JSON."""
    text = read_whole(path, follow=follow).decode()
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


CONFIDENTIAL = "confidential.json"
"""What a run's documents hold in confidence: a file of the owner's alone, whatever the umask."""


def read_confided(path: StrPath) -> Any:
    """Read one JSON document of a run, with what is confidential put back in its place."""
    return put_back(path, read_json(path))


def put_back(path: StrPath, document: Any) -> Any:
    """Return a document of a run with what is confidential put back in its place.

    Who may not read `CONFIDENTIAL` beside `path`, the document's, gets it without.
    """
    folder, name = os.path.split(os.fspath(path))
    try:
        kept = read_json(os.path.join(folder, CONFIDENTIAL)).get(name, [])
        for place, value in kept:
            holder = document
            for part in place[:-1]:
                holder = holder[part]
            holder[place[-1]] = value
    except (OSError, ValueError, LookupError, TypeError, AttributeError):
        return document
    return document


def append_record(path: StrPath, record: dict[str, Any]) -> None:
    """Append `record` as one line of JSON.

    A single `write` on a descriptor opened with O_APPEND: lines of different processes on one file
    system never mix (POSIX write(2)); every rank writes a file of its own all the same, since NFS
    does not keep that promise between hosts. Raises `OSError` if the record is not on the disk, or
    not all of it: a full disk takes a part of a line. That part is passed over by `read_records`,
    and the next record begins on a line of its own.
    """
    line = json.dumps(record, separators=(",", ":")).encode() + b"\n"
    is_new = not os.path.exists(path)
    descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT, 0o666)
    try:
        if is_new:
            try:
                share_as_folder(descriptor, os.path.dirname(os.fspath(path)))
            except OSError:
                _remove(os.fspath(path))
                raise
        size = os.fstat(descriptor).st_size
        if size and os.pread(descriptor, 1, size - 1) != b"\n":
            line = b"\n" + line  # somebody was cut short in the middle of a line
        while line:  # a full disk writes what it can before it says that it is full
            line = line[os.write(descriptor, line) :]
    finally:
        os.close(descriptor)


def read_records(path: StrPath) -> Iterator[dict[str, Any]]:
    """Yield the records of a JSON-lines file; a line cut short by a crash is passed over.

    A file that is not there has no records.
    """
    try:
        with _open(path) as stream:
            for line in stream:
                try:
                    record = json.loads(line)
                except (ValueError, RecursionError):
                    continue
                if isinstance(record, dict):
                    yield record
    except FileNotFoundError:
        return


def tail(path: StrPath, lines: int = 20, limit: int = 65536) -> list[str]:
    """Return the last `lines` lines of a log, looking at no more than its last `limit` bytes."""
    try:
        with _open(path) as stream:
            stream.seek(0, os.SEEK_END)
            stream.seek(max(0, stream.tell() - limit))
            text = stream.read().decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    return text.splitlines()[-lines:]


def cannot_write(
    path: StrPath, error: OSError, *, needed: int = 0, written: int = 0, key: str = "runs_root"
) -> RunFolderError:
    """Return what to tell when the file system refuses `path` of a run folder, or of what lies in
    another root, which a site's `key` names; a full one is told with the bytes that were `needed`
    in all, and those `written`."""
    ways = f"another {key.replace('_', ' ')}: HPCTF_{key.upper()}, or {key} in the site file."
    where = repr(os.fspath(path))
    for number, why in _FULL.items():
        if error.errno == number or os.strerror(number) in str(error):
            return RunFolderError(
                f"{where} cannot be written: {why}{_amounts(path, needed, written)}.",
                f"Remove what you need no more, or choose {ways}",
            )
    return RunFolderError(
        f"{where} cannot be made: {error.strerror or error}{_obstacle(path, error)}.",
        f"Choose {ways}",
    )


_FULL = {
    errno.EDQUOT: "your quota on its file system is used up",
    errno.ENOSPC: f"its file system is full, {os.strerror(errno.ENOSPC)}",
}


def _amounts(path: StrPath, needed: int, written: int) -> str:
    """Return how much is free and needed; what was written takes up what had been free."""
    try:
        found = os.statvfs(existing(path))
    except OSError:
        return ""
    if found.f_files and not found.f_favail:
        return " (it has no room for more files, however small)"
    free = f"{(found.f_bavail * found.f_frsize + written) / 1e6:.1f} MB were free"
    return f" ({free}, {needed / 1e6:.1f} MB are needed)" if needed else f" ({free})"


def _obstacle(path: StrPath, error: OSError) -> str:
    """Return the folder above `path` that is in the way, if it is not `path` itself."""
    nearest = existing(path)
    if error.errno == errno.ENOTDIR:
        return f": {nearest!r} is not a folder"
    if error.errno == errno.EACCES and nearest != os.fspath(path):
        return f": you may not write {nearest!r}"
    return ""


def existing(path: StrPath) -> str:
    """Return the nearest of a path and the folders above it that is there."""
    nearest = os.fspath(path)
    while not os.path.lexists(nearest) and os.path.dirname(nearest) != nearest:
        nearest = os.path.dirname(nearest)
    return nearest
