"""What is to be copied: a look at a file or a folder, and whether a copy is still the same."""

from __future__ import annotations

import os
import stat
from collections import namedtuple

from hpctf.errors import StagingError, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

FILE, FOLDER, LINK = "file", "folder", "link"

_BLOCK = 4096
"""Bytes that file systems give to files at a time, mostly."""


class Entry(namedtuple("Entry", ("path", "source", "kind", "size", "needed", "mtime_ns", "mode"))):
    """A file, folder or link of what is copied.

    ``path`` is relative to the whole, and empty for the whole itself; ``source`` is where it lies,
    of a link what it says; ``needed`` the bytes that a copy takes, which for a file with holes are
    fewer than its ``size``.
    """

    __slots__ = ()
    path: str
    source: str
    kind: str
    size: int
    needed: int
    mtime_ns: int
    mode: int


class Source(namedtuple("Source", ("path", "entries"))):
    """A file or folder and all in it, as one look found it; folders come before what they hold."""

    __slots__ = ()
    path: str
    entries: list[Entry]

    @property
    def name(self) -> str:
        """What the copy is called: scripts look at the ends of names."""
        return os.path.basename(self.path.rstrip("/")) or "data"

    @property
    def needed(self) -> int:
        """Bytes that a copy takes."""
        return sum(entry.needed for entry in self.entries)

    @property
    def files(self) -> list[Entry]:
        return [entry for entry in self.entries if entry.kind == FILE]

    def fingerprint(self) -> str:
        """Return what tells this state of the source from any other, by sizes and times."""
        import hashlib

        found = hashlib.blake2b(os.fsencode(self.path), digest_size=8)
        for entry in self.entries:
            known = [entry.path, entry.kind, entry.size]
            known.append(entry.source if entry.kind == LINK else entry.mtime_ns)
            found.update(os.fsencode(repr(known)))
        return found.hexdigest()

    def is_copied(self, copy: str, *, by_content: bool = False) -> bool:
        """Whether a copy still is what the source was at the look: nobody has changed a file."""
        for entry in self.entries:
            path = os.path.join(copy, entry.path) if entry.path else copy
            try:
                found = os.lstat(path)
                if entry.kind == LINK:
                    same = os.readlink(path) == entry.source
                elif entry.kind == FOLDER:
                    same = stat.S_ISDIR(found.st_mode)
                else:
                    same = stat.S_ISREG(found.st_mode)
                    same = same and found.st_size == entry.size
                    same = same and found.st_mtime_ns == entry.mtime_ns
                    same = same and (not by_content or _same_content(entry.source, path))
            except OSError:
                return False
            if not same:
                return False
        return True


def look(path: str) -> Source:
    """Return a file or folder and all in it.

    A relative link within the folder stays a link; any other is followed, since what it leads to
    would not be found from the copy.

    Raises
    ------
    StagingError
        Something in it cannot be read, is neither file nor folder, or leads round in a circle.
    """
    real = os.path.realpath(path)
    return Source(path, list(_entries(real, "", "", ())))


def _entries(real: str, relative: str, base: str, above: tuple[str, ...]) -> Iterator[Entry]:
    """Yield what lies at `real`, as it will at `relative`. Of the folders above that, `base` is the
    one whose links have meant the same where the folder lay, and `above` are all, where they lay.
    """
    listed = []
    try:
        found = os.stat(real)
        if stat.S_ISDIR(found.st_mode):
            with os.scandir(real) as listing:
                listed = sorted((entry.name, entry.is_symlink()) for entry in listing)
    except OSError as error:
        raise _unreadable(real, error) from None
    if stat.S_ISREG(found.st_mode):
        yield Entry(relative, real, FILE, found.st_size, _needed(real, found), *_rest(found))
        return
    if not stat.S_ISDIR(found.st_mode):
        raise StagingError(
            f"{shown(real)} cannot be staged: it is neither a file nor a folder.",
            "Move it elsewhere, or use --input in place of --stage.",
        )
    if real in above:
        raise StagingError(
            f"{shown(real)} cannot be staged: links in it lead round in a circle.",
            "Remove the link, or use --input in place of --stage.",
        )

    yield Entry(relative, real, FOLDER, 0, _BLOCK, *_rest(found))
    for name, is_link in listed:
        inner, place = os.path.join(real, name), os.path.join(relative, name)
        if not is_link:
            yield from _entries(inner, place, base, (*above, real))
            continue
        link = os.readlink(inner)
        if not os.path.exists(inner) or _stays_within(link, place, base):
            yield Entry(place, link, LINK, 0, 0, 0, 0)
        else:
            yield from _entries(os.path.realpath(inner), place, place, (*above, real))


def _stays_within(link: str, place: str, base: str) -> bool:
    """Whether a link at `place` leads to something else in `base`, wherever that lies."""
    if os.path.isabs(link):
        return False
    folder = os.path.dirname(os.path.relpath(place, base) if base else place)
    return not os.path.normpath(os.path.join(folder, link)).startswith("..")


def _needed(path: str, found: os.stat_result) -> int:
    """Return the bytes that a copy of a file takes: those of its holes are none."""
    size = found.st_size
    if found.st_blocks * 512 < size:
        try:
            size = sum(end - start for start, end in data_of(path, size))
        except OSError as error:
            raise _unreadable(path, error) from None
    return -(-size // _BLOCK) * _BLOCK


def data_of(path: str, size: int) -> list[tuple[int, int]]:
    """Return where a file has data, not holes, as pairs of start and end (lseek(2), SEEK_DATA)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return extents(descriptor, size)
    finally:
        os.close(descriptor)


def extents(descriptor: int, size: int) -> list[tuple[int, int]]:
    """Return where an open file has data; all of it where the file system does not tell."""
    import errno

    found: list[tuple[int, int]] = []
    at = 0
    while at < size:
        try:
            start = os.lseek(descriptor, at, os.SEEK_DATA)
            at = os.lseek(descriptor, start, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:  # nothing but a hole comes
                return found
            return [(0, size)]
        found.append((start, min(at, size)))
    return found


def _rest(found: os.stat_result) -> tuple[int, int]:
    return found.st_mtime_ns, stat.S_IMODE(found.st_mode)


def _same_content(one: str, other: str) -> bool:
    from hpctf.common.files import same_bytes

    with open(one, "rb") as first, open(other, "rb") as second:
        return same_bytes(first, second)


def _unreadable(path: str, error: OSError) -> StagingError:
    return StagingError(f"{shown(path)} cannot be staged: {error.strerror}.", _READABLE)


_READABLE = "Let yourself read it on the compute nodes, or leave it out."
