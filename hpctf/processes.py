"""Processes of this machine: whether one is still the one that was meant."""

from __future__ import annotations

import os


def start_time(pid: int) -> str | None:
    """Return a process's start time in clock ticks since boot (proc(5), stat field 22).

    None if there is no such process, or only its zombie. Process ids come round again; together
    with its start time an id is one process.
    """
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stream:
            fields = stream.read().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]


def user_name() -> str:
    """Return who runs this; where no name is known, as in a container, the number."""
    import getpass

    try:
        return getpass.getuser()
    except (KeyError, OSError):  # Python 3.13 raises the latter
        return str(os.geteuid())
