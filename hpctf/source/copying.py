"""Copying a folder's files into a run, each as it was at one moment."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from hpctf.common.cloning import clone
from hpctf.common.files import PRIVATE_UMASK, cannot_write, make_folder
from hpctf.common.progress import followed
from hpctf.errors import RunFolderError

ATTEMPTS = 3
"""How often a file is copied that changes meanwhile: one that is saved just now is quiet by then,
one that is written all the time never is."""

IGNORE_FILE = ".hpctfignore"
OUTPUTS = "outputs"
"""The folder at the top that every run has of its own."""

_BLOCK = 1 << 20
_PERMISSIONS = 0o777
_OWNER_READS = 0o400
_WRITING = 0o022
# Not through a link, and without waiting for a pipe's writer: either may have come since the walk.
_OPEN = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NO_FILE_NOW = (errno.ELOOP, errno.ENXIO)
"""What open(2) says of a link and of a socket under `_OPEN`."""


@dataclass(frozen=True)
class Entry:
    """A file, link or folder of the source folder: its relative name, and a file's size."""

    name: str
    is_folder: bool = False
    size: int = 0


@dataclass
class Copier:
    """Copies entries of one folder to another.

    Parameters
    ----------
    source
        The folder that holds the entries, with no link in its path.
    entries
        What to copy, folders before what is in them.
    check_size
        Called with the sizes by name when a file is not as large as its entry says; it raises if
        they are too large together.
    umask
        What folders are made with. Files keep their permissions, but those who may enter may not
        write what it forbids them: the run's own code would be theirs to change.
    """

    source: Path
    destination: Path
    entries: list[Entry]
    check_size: Callable[[Mapping[str, int]], object]
    umask: int = PRIVATE_UMASK

    def __post_init__(self) -> None:
        self._written = 0
        self.sizes = {entry.name: entry.size for entry in self.entries}

    def copy(self) -> set[str]:
        """Copy all entries and return the names of those that have vanished.

        Raises
        ------
        RunFolderError
            A file cannot be read or written, or changed each time that it was copied.
        """
        with self._writing(self.destination):
            make_folder(self.destination, self.umask)
        entries = followed(self.entries, "Copying the source folder", lambda entry: entry.size)
        absent = [entry for entry in entries if not self._copy(entry)]
        # Some programs save by removing and writing anew: by now they have.
        return {entry.name for entry in absent if not self._copy(entry)}

    def _copy(self, entry: Entry) -> bool:
        """Copy one entry; return False if it is not there any more."""
        path, target = self.source / entry.name, self.destination / entry.name
        if entry.is_folder:
            with self._writing(target):
                make_folder(target, self.umask)
            return True
        for _ in range(ATTEMPTS):
            try:
                if self._copy_once(entry.name, path, target):
                    return True
            except (FileNotFoundError, NotADirectoryError):
                self.sizes[entry.name] = 0
                return False
        raise RunFolderError(
            f"{str(path)!r} changed each of the {ATTEMPTS} times that it was copied into the run.",
            f"Submit again when nothing writes it, or name it in {self.source / IGNORE_FILE}.",
        )

    def _copy_once(self, name: str, path: Path, target: Path) -> bool:
        """Copy a file or link; return whether it stayed the same meanwhile."""
        with self._writing(target):
            target.unlink(missing_ok=True)
        with _reading(path):
            is_link = stat.S_ISLNK(path.lstat().st_mode)
            leads_to = self._link(path) if is_link else ""
        if is_link:
            with self._writing(target):
                target.symlink_to(leads_to)
            return True
        with _reading(path):
            try:
                descriptor = os.open(path, _OPEN)
            except OSError as error:
                if error.errno in _NO_FILE_NOW:
                    return False
                raise
        before = os.fstat(descriptor)
        if not stat.S_ISREG(before.st_mode):
            os.close(descriptor)
            return False
        with open(descriptor, "rb", buffering=0) as stream:
            self._copy_content(name, path, target, stream, before)
            after = os.fstat(descriptor)
        same = (before.st_size, before.st_mtime_ns) == (after.st_size, after.st_mtime_ns)
        self._written += before.st_size if same else 0
        return same

    def _copy_content(
        self, name: str, path: Path, target: Path, stream: BinaryIO, before: os.stat_result
    ) -> None:
        if before.st_size != self.sizes[name]:
            self.sizes[name] = before.st_size
            self.check_size(self.sizes)
        private = self.umask & PRIVATE_UMASK == PRIVATE_UMASK
        forbidden = 0 if private else self.umask & _WRITING
        mode = before.st_mode & _PERMISSIONS & ~forbidden | _OWNER_READS
        with self._writing(target), open(target, "xb") as copy:
            if not clone(stream.fileno(), copy.fileno()):
                for block in _blocks(path, stream, before.st_size):
                    copy.write(block)
            os.fchmod(copy.fileno(), mode)
        with self._writing(target):
            os.utime(target, ns=(before.st_atime_ns, before.st_mtime_ns))

    def _link(self, path: Path) -> str:
        """Return where the copy of a link is to lead: within the copy for what goes with it, is
        nowhere yet, or lies in the run's own outputs; else to the very place, as it is named."""
        link = os.readlink(path)
        named = os.path.join(path.parent, link)
        real = os.path.relpath(os.path.realpath(named), self.source)
        top = real.split(os.sep)[0]
        inside = top != os.pardir
        there = os.path.exists(named)
        if inside and (not there or top == OUTPUTS or real == os.curdir or real in self.sizes):
            here = os.path.relpath(path.parent, self.source)
            stays = os.path.normpath(os.path.join(here, link)).split(os.sep)[0] not in ("", "..")
            return link if stays else os.path.relpath(real, here)
        tidy = os.path.normpath(named)
        # ".." after a link leads elsewhere than the text says
        return tidy if os.path.realpath(tidy) == os.path.realpath(named) else named

    @contextmanager
    def _writing(self, target: Path) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            needed, written = sum(self.sizes.values()), self._written + _length(target)
            raise cannot_write(target, error, needed=needed, written=written) from None


def _length(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:
        return 0


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (FileNotFoundError, NotADirectoryError):
        raise
    except OSError as error:
        raise cannot_read(path, error) from None


def cannot_read(path: str | os.PathLike[str], error: OSError) -> RunFolderError:
    """Return what to tell of a part of the source folder that cannot be read."""
    return RunFolderError(
        f"{os.fspath(path)!r} cannot be copied into the run: {error.strerror}.",
        f"Make it readable, or name it in {IGNORE_FILE} at the top of the source folder.",
    )


def _blocks(path: Path, stream: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield a file's first `size` bytes; no more, or a file that grows would never end."""
    while size > 0:
        with _reading(path):
            block = stream.read(min(size, _BLOCK))
        if not block:
            return
        size -= len(block)
        yield block
