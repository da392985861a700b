"""Archived runs: each is one compressed file, which brings it back as it was.

An archive lies in ``<runs root>/.archive/<experiment>/<run id>.tar.gz``, or in another folder's
``<experiment>``. The run's folder goes only once the archive is whole on the disk and has been read
back and compared with it, byte by byte.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import hmac
import os
import stat
import tarfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

from hpctf.common.files import CONFIDENTIAL, PRIVATE_FILE, cannot_write, same_bytes
from hpctf.common.locks import lock
from hpctf.common.progress import Measured, followed, measured
from hpctf.errors import RunFolderError, RunNotFound, UsageError, shown
from hpctf.run_folder.layout import ARCHIVES, RunFolder, check_name, only_one
from hpctf.run_folder.ownership import SEAL, is_mine, seal, signature
from hpctf.runs.housekeeping.removal import Guard, Tell, take_away
from hpctf.runs.housekeeping.unpacking import (
    Readable,
    experiment_and_id,
    read_through,
    unpack,
    without_seal,
)

SUFFIX = ".tar.gz"
_PART = ".part"
_LEVEL = 1
"""gzip's. Weights shrink by 7 % at any level; metrics to 17 % at 1, and to 14 % at 6 in three times
as long (measured)."""

# An archive's signature is an empty member of gzip's at its end, whose comment holds it: gzip and
# tar pass over it. It is no secret: nobody but the user can make one for another content.
_HEAD = b"\x1f\x8b\x08\x10" + bytes(5) + b"\xff"  # deflate, with a comment (RFC 1952)
_EMPTY = b"\x03\x00" + bytes(8)  # no data, and their checksum and length
_LENGTH = len(_HEAD) + len(b"hpctf:") + 64 + 1 + len(_EMPTY)
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Archived:
    """A run that is an archive, or that one brings back."""

    file: Path
    experiment: str
    id: str

    @property
    def size(self) -> int:
        """The file's bytes."""
        return self.file.stat().st_size

    @property
    def time(self) -> float:
        """When it was made, in seconds since the epoch."""
        return self.file.stat().st_mtime


def archives_folder(root: Path, to: Path | None = None) -> Path:
    """Return where the archives of a runs root lie: in its own folder, or the one that is named."""
    return root / ARCHIVES if to is None else to.absolute()


def archives(root: Path, to: Path | None = None) -> list[Archived]:
    """Return the archives of a runs root, or of another folder, by experiment and id."""
    files = sorted(archives_folder(root, to).glob(f"*/*{SUFFIX}"))
    return [_archived(file) for file in files if not file.name.startswith(".")]


def archive(
    root: Path, folders: Sequence[RunFolder], to: Path | None = None, tell: Tell | None = None
) -> list[Archived]:
    """Make an archive of each run, and then remove the run; `tell` gets the id of each.

    An earlier archive of the same run is replaced.

    Raises
    ------
    UsageError
        One of them must stay (`hpctf.runs.housekeeping.removal`): nothing was touched.
    RunFolderError
        An archive could not be written, or was not what the folder is: the run is where it was.
    """
    into = archives_folder(root, to)
    for folder in folders:
        study = folder.study
        if study is not None:
            raise UsageError(
                f"Run {folder.id} is a trial, which is archived with its study.",
                f"hpctf archive {study.id}",
            )
    guard = Guard(root, folders)
    for folder in folders:
        if into.resolve().is_relative_to(folder.path.resolve()):
            raise UsageError(
                f"{str(into)!r} lies in run {folder.id}, which is to go.",
                "Name a folder outside the run with --to.",
            )
    made = []
    for folder in followed(folders, "Archiving runs"):
        made.append(_archive(root, folder, into))
        guard.check(folder)
        take_away(folder.path)
        if tell is not None:
            tell(folder.id)
    return made


def restore(root: Path, name: str, to: Path | None = None) -> RunFolder:
    """Bring an archived run back to its runs root; the archive stays.

    `name` is the run's id, a unique prefix of it, or the archive's file.

    Raises
    ------
    RunNotFound
        No archive has the name, or more than one.
    UsageError
        The run is there, or the file is no archive of a run.
    RunFolderError
        The run cannot be written.
    """
    file = Path(name) if os.sep in name or os.path.isfile(name) else _find(root, name, to).file
    try:
        stream = open(file, "rb")  # noqa: SIM115  (closed below, apart from what goes wrong there)
    except OSError as error:
        raise UsageError(
            f"The archive {str(file)!r} cannot be read: {error.strerror}.",
            "Name an archive that you can read: hpctf archive --list.",
        ) from None
    try:
        with stream:
            _hold(stream, file)
            return _restore(root, file, stream)
    except (tarfile.TarError, gzip.BadGzipFile, zlib.error, EOFError) as error:
        raise UsageError(
            f"{str(file)!r} is no whole archive of a run: {error}.",
            "Restore from another copy: this file is cut off or damaged.",
        ) from None
    except OSError as error:
        raise cannot_write(error.filename or root, error) from None


def _restore(root: Path, file: Path, stream: BinaryIO) -> RunFolder:
    experiment, run_id = experiment_and_id(file, stream)
    folder = RunFolder(root / check_name("experiment", experiment) / run_id)
    if os.path.lexists(folder.path):
        raise UsageError(
            f"Run {run_id} is there: {str(folder.path)!r}.",
            "Remove it first (hpctf runs --rm RUN), or leave it as it is.",
        )
    stream.seek(0)
    with measured(f"Restoring {run_id}", lambda: os.fstat(stream.fileno()).st_size) as done:
        verifying = Verifying(Measured(stream, done))
        unpack(verifying, folder.path)
    if verifying.is_signed():
        made = folder.path.stat()
        seal(folder.path)
        os.utime(folder.path, ns=(made.st_atime_ns, made.st_mtime_ns))
    return folder


def _find(root: Path, name: str, to: Path | None) -> Archived:
    where = str(archives_folder(root, to))
    found: Archived | None = only_one(archives(root, to), name, f"archives in {where!r}")
    if found is None:
        raise RunNotFound(
            f"There is no archive of a run {shown(name)} in {where!r}.",
            "'hpctf archive --list' lists the archives; --to names another folder.",
        )
    return found


def _archived(file: Path) -> Archived:
    return Archived(file, file.parent.name, file.name.removesuffix(SUFFIX))


def _archive(root: Path, folder: RunFolder, into: Path) -> Archived:
    place = into / folder.experiment
    file = place / f"{folder.id}{SUFFIX}"
    part = file.with_name(f".{file.name}{_PART}")
    try:
        _make_like(into, root)
        _make_like(place, folder.path.parent)
        with open(part, "a+b") as stream:
            _hold(stream, part)
            if not os.path.exists(part) or not os.path.samefile(part, stream.fileno()):
                raise _in_use(part)  # another hpctf finished it between opening and locking
            stream.truncate(0)
            try:
                with measured(f"Archiving {folder.id}", lambda: 2 * _size(folder.path)) as done:
                    _write(stream, folder, done)
                    _compare(part, folder, done)
                os.rename(part, file)
            except BaseException:
                os.unlink(part)
                raise
        _flush_folder(place)
    except OSError as error:
        raise _not_archived(folder, part, error) from None
    return _archived(file)


def _size(folder: Path) -> int:
    return sum(os.lstat(path).st_size for path in _paths(folder))


def _write(stream: BinaryIO, folder: RunFolder, done: Callable[[int], None]) -> None:
    """Write the archive, as open to others as the folder and all that is confidential in it, and
    have it on the disk."""
    confided = os.path.lexists(folder.path / CONFIDENTIAL)
    os.fchmod(stream.fileno(), PRIVATE_FILE if confided else folder.path.stat().st_mode & 0o666)
    with (
        gzip.GzipFile(fileobj=stream, mode="wb", compresslevel=_LEVEL) as zipped,
        tarfile.open(fileobj=Measured(zipped, done), mode="w:") as tar,  # type: ignore[call-overload]
    ):
        tar.add(folder.path, f"{folder.experiment}/{folder.id}", filter=without_seal)
    stream.flush()
    if is_mine(folder.path):
        sign(stream)
        stream.flush()
    os.fsync(stream.fileno())


def _compare(file: Path, folder: RunFolder, done: Callable[[int], None]) -> None:
    """Read an archive back, and refuse it unless it is what the folder is."""
    above = folder.root
    found = set()
    with open(file, "rb") as stream, read_through(stream) as tar:
        for member in tar:
            if not _same(tar, member, above, done):
                raise _changed(folder, above / member.name)
            found.add(str(above / member.name))
    missing = set(_paths(folder.path)) - found - {str(folder.path / SEAL)}
    if missing:
        raise _changed(folder, Path(min(missing)))


def _same(
    tar: tarfile.TarFile, member: tarfile.TarInfo, above: Path, done: Callable[[int], None]
) -> bool:
    path = above / member.name
    try:
        if member.issym():
            return os.readlink(path) == member.linkname
        if member.islnk():
            return os.path.samefile(path, above / member.linkname)
        if not member.isreg():
            return member.isdir() == path.is_dir()
        content: Any = tar.extractfile(member)
        counted: Any = Measured(content, done)
        with open(path, "rb") as original:
            return same_bytes(counted, original)
    except FileNotFoundError:
        return False


def _not_archived(folder: RunFolder, part: Path, error: OSError) -> RunFolderError:
    """Return what to tell when a run cannot be read, or its archive not be written."""
    if error.errno is None:  # tarfile's own: a file was shorter than it had been
        return _changed(folder, folder.path)
    if error.filename and Path(error.filename).is_relative_to(folder.path):
        return RunFolderError(
            f"Run {folder.id} was not archived: {error.filename!r} cannot be read: "
            f"{error.strerror}.",
            "The run is as it was. Make that readable, or remove it.",
        )
    return cannot_write(error.filename or part, error)


def _changed(folder: RunFolder, path: Path) -> RunFolderError:
    return RunFolderError(
        f"Run {folder.id} was not archived: {str(path)!r} changed meanwhile.",
        "The run is as it was. See who writes it, and try again.",
    )


def _paths(folder: Path) -> Iterator[str]:
    """Yield the paths of a folder and of all in it, but sockets, which no archive can hold."""
    yield str(folder)
    for above, folders, files in os.walk(folder):
        for path in (os.path.join(above, name) for name in (*folders, *files)):
            if not stat.S_ISSOCK(os.lstat(path).st_mode):
                yield path


def _hold(stream: BinaryIO, path: Path) -> None:
    """Hold an archive's file, so that no two make it or bring it back at once."""

    def refuse(_: int) -> NoReturn:
        raise _in_use(path)

    lock(stream.fileno(), refuse)


def _in_use(path: Path) -> UsageError:
    return UsageError(f"{str(path)!r} is in use by another hpctf.")


def _make_like(folder: Path, model: Path) -> None:
    """Make a folder, unless it is there, that is as open to others as another one."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(parents=True)
        os.chmod(folder, stat.S_IMODE(model.stat().st_mode))


def _flush_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sign(stream: BinaryIO) -> None:
    """Append the user's signature to an archive that is open for reading and writing."""
    digest = hashlib.sha256()
    stream.seek(0)
    while chunk := stream.read(_CHUNK):
        digest.update(chunk)
    code = signature(digest.digest())
    if code is not None:
        stream.write(_member(code))


class Verifying:
    """Reads an archive, and knows at its end whether the user has signed it.

    What is verified is what was read, even if somebody writes the file meanwhile.
    """

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self._digest = hashlib.sha256()
        self._last = b""

    def read(self, size: int = -1) -> bytes:
        """Read as a file does."""
        chunk = self._stream.read(size)
        self._last += chunk
        self._digest.update(self._last[:-_LENGTH])
        self._last = self._last[-_LENGTH:]
        return chunk

    def is_signed(self) -> bool:
        """Return whether the user has signed what was read; reads what is left."""
        while self.read(_CHUNK):
            pass
        code = signature(self._digest.digest())
        return code is not None and hmac.compare_digest(self._last, _member(code))


def _member(code: bytes) -> bytes:
    return _HEAD + b"hpctf:" + code.hex().encode() + b"\0" + _EMPTY
