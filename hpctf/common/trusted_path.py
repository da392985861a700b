"""Who could have put another program in the place of one: every folder and link on the way to it.

What hpctf executes as the person (an interpreter, a template, a wheel) is first looked at from the
root of the file system on. Each component of its path, each link, and each component of the link's
target must belong to somebody trusted, and nobody else may write it. A folder with the sticky bit
that others may write (``/tmp``) may be passed through, since they cannot replace there what is not
theirs; it cannot hold what is looked up by whatever name is there.

A POSIX access control list shows in the mode: the group's bits are its mask (acl(5)). What it
allows to users and groups it names is read from it where the mask lets somebody write.
"""

from __future__ import annotations

import contextlib
import errno
import glob
import grp
import os
import pwd
import stat
import struct
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from hpctf.common.processes import name_of_group, name_of_user
from hpctf.errors import UntrustedPath

_MOST_LINKS = 40  # as Linux: path_resolution(7)
_ACL = "system.posix_acl_access"
_ACL_USER, _ACL_GROUP_OBJ, _ACL_GROUP = 0x02, 0x04, 0x08
_ACL_WRITE = 0x02
_STATIC_GROUPS = 100
"""Groups below it are the distribution's own, such as Debian's staff, which owns /usr/local."""


@dataclass(frozen=True)
class Trusted:
    """Whose files may be executed, besides those of the person and root: users, and all members of
    groups, by their ids."""

    users: frozenset[int] = frozenset()
    groups: frozenset[int] = frozenset()

    def has(self, user: int) -> bool:
        """Return whether a user is trusted."""
        if user in (0, os.geteuid(), _hidden_root()) or user in self.users:
            return True
        return bool(self.groups) and not self.groups.isdisjoint(_groups_of(user))

    def has_group(self, group: int, owner: int) -> bool:
        """Return whether all of a group are trusted, in what belongs to `owner`."""
        if group == 0 or group in self.groups or _is_private(group, owner):
            return True
        return group < _STATIC_GROUPS and all(map(self.has, _members(group)))


ONLY_ME = Trusted()
"""The person and root."""


@dataclass(frozen=True)
class Doubt:
    """A component of a path that somebody could change who is not trusted.

    ``why`` is what is wrong with it, as the end of a sentence; ``open_to_all`` whether every user
    of the machine could. ``planted``: a stranger may have put it there, for it lies where everybody
    may make something.
    """

    path: str
    why: str
    open_to_all: bool = False
    planted: bool = False

    def __str__(self) -> str:
        return f"{self.path!r} {self.why}"


def trusted(users: Iterable[str], groups: Iterable[str]) -> Trusted:
    """Return who is trusted by name; names that this machine does not know own nothing here."""
    return Trusted(_ids(pwd.getpwnam, users), _ids(grp.getgrnam, groups))


def doubts(path: str | os.PathLike[str], by: Trusted = ONLY_ME) -> Iterator[Doubt]:
    """Yield what could be changed by others on the way to a path, from the root on.

    The walk ends without an error where nothing is there yet. Raises `OSError` if a folder may not
    be entered, or links go round in a circle.
    """
    seen = set()
    try:
        for component, found, last in _components(os.path.abspath(path)):
            if (component, last) in seen:
                continue
            seen.add((component, last))
            yield from _doubts_of(component, found, last, by)
    except (FileNotFoundError, NotADirectoryError):
        return


def check(path: str | os.PathLike[str], what: str, by: Trusted = ONLY_ME) -> None:
    """Refuse a path that somebody could change who is not trusted. Raises `UntrustedPath`, naming
    `what` it is (``The template folder``), the component, who could change it, and the ways out."""
    for doubt in _looked_at(path, what, by):
        raise _untrusted(path, what, doubt)


def is_own(path: str | os.PathLike[str]) -> bool:
    """Return whether nobody but the person and root could change what lies at a path."""
    try:
        return not any(True for _ in doubts(path))
    except OSError:
        return False


def parts_of_python(python: str | os.PathLike[str]) -> list[str]:
    """Return what an interpreter consists of, as far as it tells who made it: itself, its folder,
    and what it imports from if it is an environment's."""
    binary = os.fspath(python)
    folder = os.path.dirname(binary)
    prefix = os.path.dirname(folder)
    packages = glob.glob(os.path.join(glob.escape(prefix), "lib", "python3*", "site-packages"))
    return [binary, folder, os.path.join(prefix, "pyvenv.cfg"), *packages]


def check_chosen(path: str | os.PathLike[str], what: str, by: Trusted = ONLY_ME) -> str | None:
    """Refuse a path of the person's own choice if everybody could change it. Return who else could,
    for the person to know, or None: a colleague's environment is used on purpose. Raises
    `UntrustedPath` if every user of the machine could put another program there."""
    found = list(_looked_at(path, what, by))
    for doubt in found:
        if doubt.open_to_all:
            raise _untrusted(path, what, doubt)
    if not found:
        return None
    return f"{what} {os.fspath(path)!r} runs as you, but {found[0]}"


def check_place(path: str | os.PathLike[str], what: str, by: Trusted = ONLY_ME) -> None:
    """Refuse a folder to write into that everybody could exchange, or that a stranger has put where
    everybody may make one, as `check` does. A group's, and a colleague's elsewhere, will do.
    """
    try:
        for doubt in doubts(path, by):
            if doubt.open_to_all or doubt.planted:
                raise _untrusted(path, what, doubt)
    except OSError:
        return  # who makes the folder finds the same, and says what can be done about it


def check_tree(folder: str | os.PathLike[str], what: str, by: Trusted = ONLY_ME) -> None:
    """Do `check` for a folder and for all that is in it."""
    check(folder, what, by)
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = os.path.join(place, name)
            found = os.lstat(path)
            if stat.S_ISLNK(found.st_mode):
                check(path, what, by)
            for doubt in _doubts_of(path, found, True, by):
                raise _untrusted(folder, what, doubt)


def _looked_at(path: str | os.PathLike[str], what: str, by: Trusted) -> Iterator[Doubt]:
    try:
        yield from doubts(path, by)
    except OSError as error:
        raise UntrustedPath(
            f"{what} {os.fspath(path)!r} cannot be looked at: {error.filename or ''}: "
            f"{error.strerror}.",
            "Name a path that you can read.",
        ) from None


def _untrusted(path: str | os.PathLike[str], what: str, doubt: Doubt) -> UntrustedPath:
    return UntrustedPath(
        f"{what} {os.fspath(path)!r} is not used: {doubt}, and what is in it runs as you.",
        "Take that right away (chmod go-w), use a folder that only you may write, or name whom "
        "you trust in the site file: trust: {users: [NAME], groups: [NAME]}.",
    )


def _components(path: str) -> Iterator[tuple[str, os.stat_result, bool]]:
    """Yield (component, lstat, whether nothing follows) of a path and of all its links' targets.
    What is yielded has no link in the folders above it, so ``..`` is the folder above."""
    left = [name for name in reversed(path.split(os.sep)) if name]
    here = os.sep
    links = 0
    yield here, os.lstat(here), not left
    while left:
        name = left.pop()
        if name == os.pardir:
            here = os.path.dirname(here)
            continue
        component = os.path.join(here, name)
        found = os.lstat(component)
        if not stat.S_ISLNK(found.st_mode):
            here = component
            yield component, found, not left
            continue
        yield component, found, False
        links += 1
        if links > _MOST_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        target = os.readlink(component)
        here = os.sep if os.path.isabs(target) else here
        left += [name for name in reversed(target.split(os.sep)) if name not in ("", os.curdir)]


def _doubts_of(path: str, found: os.stat_result, last: bool, by: Trusted) -> Iterator[Doubt]:
    mode = stat.S_IMODE(found.st_mode)
    if not by.has(found.st_uid):
        planted = bool(os.stat(os.path.dirname(path)).st_mode & stat.S_IWOTH)
        yield Doubt(path, f"belongs to {name_of_user(found.st_uid)}", planted=planted)
    if stat.S_ISLNK(found.st_mode):
        return  # its mode says nothing: symlink(7)
    if stat.S_ISDIR(found.st_mode) and mode & stat.S_ISVTX and not last:
        return
    if mode & stat.S_IWOTH:
        yield Doubt(path, f"can be written by everybody (mode {mode:o})", open_to_all=True)
    if mode & stat.S_IWGRP:
        for writer in _others_by_group_bits(path, found, by):
            yield Doubt(path, f"can be written by {writer} (mode {mode:o})")


def _others_by_group_bits(path: str, found: os.stat_result, by: Trusted) -> Iterator[str]:
    """Yield who may write by the group's bits, or by the access control list that they mask."""
    entries = _acl_writers(path)
    if entries is None:
        entries = [(_ACL_GROUP_OBJ, found.st_gid)]
    for tag, number in entries:
        if tag == _ACL_USER and not by.has(number):
            yield f"user {name_of_user(number).removeprefix('user ')}"
        elif tag == _ACL_GROUP and not by.has_group(number, found.st_uid):
            yield f"group {name_of_group(number)}"
        elif tag == _ACL_GROUP_OBJ and not by.has_group(found.st_gid, found.st_uid):
            yield f"group {name_of_group(found.st_gid)}"


def _acl_writers(path: str) -> list[tuple[int, int]] | None:
    """Return (kind, id) of the entries of an access control list that may write; None without one.
    The layout is the kernel's (linux/posix_acl_xattr.h): a version, then kind, rights and id."""
    try:
        data = os.getxattr(path, _ACL, follow_symlinks=False)
    except OSError:
        return None
    entries = struct.iter_unpack("<HHI", data[4 : 4 + (len(data) - 4) // 8 * 8])
    return [(tag, number) for tag, rights, number in entries if rights & _ACL_WRITE]


@lru_cache(maxsize=256)
def _groups_of(user: int) -> frozenset[int]:
    try:
        entry = pwd.getpwuid(user)
        return frozenset(os.getgrouplist(entry.pw_name, entry.pw_gid))
    except (KeyError, OSError):
        return frozenset()


@lru_cache(maxsize=256)
def _is_private(group: int, owner: int) -> bool:
    """Return whether a group is its owner's alone, as distributions make one for each user."""
    try:
        entry, user = grp.getgrgid(group), pwd.getpwuid(owner)
    except KeyError:
        return False
    own = entry.gr_name == user.pw_name and user.pw_gid == group
    return own and set(entry.gr_mem) <= {user.pw_name}


@lru_cache(maxsize=16)
def _members(group: int) -> frozenset[int]:
    own = frozenset(entry.pw_uid for entry in pwd.getpwall() if entry.pw_gid == group)
    try:
        return own | _ids(pwd.getpwnam, grp.getgrgid(group).gr_mem)
    except KeyError:
        return own


@lru_cache(maxsize=1)
def _hidden_root() -> int | None:
    """Return the id that files of root show in a user namespace without root, or None. In a
    container of one's own all that belongs to nobody of the container looks so
    (user_namespaces(7)): the image, and the system's folders."""
    try:
        with open("/proc/self/uid_map", encoding="ascii") as stream:
            ranges = [[int(word) for word in line.split()] for line in stream]
        with open("/proc/sys/kernel/overflowuid", encoding="ascii") as stream:
            overflow = int(stream.read())
    except (OSError, ValueError):
        return None
    shown = any(outside == 0 and count for _, outside, count in ranges)
    return None if shown or not ranges else overflow


def _ids(look_up: Callable[[str], Any], names: Iterable[str]) -> frozenset[int]:
    """Return the ids of those users or groups that this machine knows."""
    found = set()
    for name in names:
        with contextlib.suppress(KeyError):
            found.add(look_up(name)[2])
    return frozenset(found)
