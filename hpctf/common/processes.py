"""Processes of this machine, whether one is still the one that was meant, and users' names."""

from __future__ import annotations

import os


def stat_of(pid: int | str) -> list[str]:
    """Return a process's fields of /proc/PID/stat from the third, its state, on (proc(5)); none if
    there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            return stream.read().rpartition(")")[2].split()
    except OSError:
        return []


def start_time(pid: int) -> str | None:
    """Return a process's start time in clock ticks since boot (proc(5), stat field 22).

    None if there is no such process, or only its zombie. Process ids come round again; together
    with its start time an id is one process.
    """
    fields = stat_of(pid)
    return None if not fields or fields[0] in ("Z", "X") else fields[19]


def is_running(*words: str) -> bool:
    """Return whether a process of this machine, other than this one, has all of these words in its
    command line (proc(5), cmdline)."""
    wanted = {os.fsencode(word) for word in words}
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        try:
            with open(f"/proc/{name}/cmdline", "rb") as stream:
                if wanted <= set(stream.read().split(b"\0")):
                    return True
        except OSError:
            continue  # it has just ended, or is another user's behind hidepid
    return False


def user_name() -> str:
    """Return who runs this; where no name is known, as in a container, the number."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # Python 3.13 raises the latter
        return str(os.geteuid())


def name_of_group(group: int) -> str:
    """Return a group's name; where none is known, the number."""
    import grp

    try:
        return grp.getgrgid(group).gr_name
    except KeyError:
        return str(group)


def name_of_user(user: int) -> str:
    """Return a user's name; where none is known, ``user 1234``."""
    import pwd

    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
