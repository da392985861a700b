"""A lock that is a symbolic link: it needs nothing of a file system but that links are made once.

flock(2) is absent on some clusters' file systems, works within one node only on others (Lustre's
"localflock"), and on NFS 3 stays with a node that has crashed. Making a link is atomic everywhere.

A lock is a folder in which the entry with the highest number counts: ``7`` is held by whom the link
names, ``7.free`` was released. Whoever wants the lock makes the link ``8``, which only one can. A
holder that died is passed over in the same way: at once if it was a process of this machine, else
once its entry has not changed for a while. Nobody ever removes the highest entry, so that two who
find the same holder dead cannot both take its place.
"""

from __future__ import annotations

import contextlib
import os
import random
import time
from collections.abc import Iterator

from hpctf.common.files import make_folder
from hpctf.common.processes import start_time

PATIENCE_S = 30.0
"""How long a holder on another machine may be silent: a slow file server must not count as dead."""

_FIRST_WAIT_S = 0.001
_LONGEST_WAIT_S = 0.05
_FREE = ".free"


@contextlib.contextmanager
def link_locked(folder: str | os.PathLike[str], patience_s: float = PATIENCE_S) -> Iterator[None]:
    """Hold the lock that a folder is; the folder is made if it is not there.

    Parameters
    ----------
    patience_s
        After how many seconds a holder on another machine counts as dead.

    Raises
    ------
    OSError
        The folder cannot be written.
    """
    path = os.fspath(folder)
    with contextlib.suppress(FileExistsError):
        make_folder(path)
    number = _acquire(path, patience_s)
    try:
        yield
    finally:
        with contextlib.suppress(FileNotFoundError):  # somebody thought this process dead
            os.rename(_entry(path, number), _entry(path, number) + _FREE)


def _acquire(folder: str, patience_s: float) -> int:
    me = holder_name()
    watched, since = "", time.monotonic()
    wait = _FIRST_WAIT_S
    while True:
        highest, is_free = _highest(folder)
        holder = "" if is_free else _holder(folder, highest)
        if f"{highest} {holder}" != watched:
            watched, since = f"{highest} {holder}", time.monotonic()

        is_silent = time.monotonic() - since > patience_s
        if is_free or is_silent or is_dead(holder):
            if _claim(folder, highest + 1, me):
                return highest + 1
            continue
        time.sleep(wait * random.uniform(0.5, 1.5))
        wait = min(2 * wait, _LONGEST_WAIT_S)


def _claim(folder: str, number: int, me: str) -> bool:
    """Make the entry of a number, unless it or a later one is there."""
    mine = _entry(folder, number)
    try:
        os.symlink(me, mine)
    except FileExistsError:
        if _holder(folder, number) != me:  # else NFS has sent the request twice
            return False

    # the listing that led here may have been old: the number may have come and gone since
    others = [name for name in os.listdir(folder) if name != str(number)]
    if any(_number(name) >= number for name in others):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(mine)
        return False
    for name in others:
        with contextlib.suppress(OSError):
            os.unlink(os.path.join(folder, name))
    return True


def _highest(folder: str) -> tuple[int, bool]:
    """Return the highest number, and whether it is free; 0, which is free, in an empty folder."""
    names = os.listdir(folder)
    highest = max(map(_number, names), default=0)
    return highest, highest == 0 or str(highest) + _FREE in names


def _entry(folder: str, number: int) -> str:
    return os.path.join(folder, str(number))


def _number(name: str) -> int:
    digits = name.removesuffix(_FREE)
    return int(digits) if digits.isdecimal() else 0


def _holder(folder: str, number: int) -> str:
    """Return who made an entry; empty if it has gone."""
    try:
        return os.readlink(_entry(folder, number))
    except OSError:
        return ""


def holder_name() -> str:
    """Return a name for this process and call, by which processes of this machine know it."""
    pid = os.getpid()
    return f"{_machine()} {pid} {start_time(pid)} {os.urandom(8).hex()}"


def _machine() -> str:
    """Return what names this boot of this machine and this container's processes."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return f"{stream.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return f"unknown {os.urandom(8).hex()}"


def is_dead(holder: str) -> bool:
    """Whether a `holder_name` is known to have ended: of other machines nobody knows."""
    words = holder.rsplit(" ", 3)
    if len(words) != 4 or words[0] != _machine() or not words[1].isdecimal():
        return False
    return words[2] != str(None) and start_time(int(words[1])) != words[2]
