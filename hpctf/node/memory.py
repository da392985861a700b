"""What the rank's cgroup knows of memory: how much is in use, and whether the kernel killed here.

Slurm's own word ("Out Of Memory") comes late, or never where there is no accounting; the counters
are there as soon as a process has ended. Sources: Linux's cgroup-v1/memory.rst (memory.oom_control,
memory.stat) and cgroup-v2.rst (memory.events, memory.stat).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

_ROOTS = ("/sys/fs/cgroup/memory", "/sys/fs/cgroup")
_UNLIMITED = 1 << 60
_KILLS = ("memory.oom_control", "memory.events")
_LIMIT = ("memory.limit_in_bytes", "memory.max")
_PEAK = ("memory.max_usage_in_bytes", "memory.peak")
_IN_USE = (("total_rss", "total_shmem"), ("anon", "shmem"))
_TASK = "task_"
"""What Slurm calls the cgroup of one task, before its number."""


def out_of_memory(cgroup_file: str = "/proc/self/cgroup") -> dict[str, int | None] | None:
    """Return kills, limit and peak (bytes) if the kernel killed in this cgroup, else None.

    Slurm sets the limit on the step or the job, above the task's own cgroup: the lowest counts.
    """
    folders = list(_folders(cgroup_file))
    if not folders:
        return None
    kills = _counter(folders[0])
    if not kills:
        return None
    limited = [(limit, folder) for folder in folders if (limit := _number(folder, _LIMIT))]
    limit, folder = min(limited, default=(None, folders[0]))
    return {"kills": kills, "limit": limit, "peak": _number(folder, _PEAK)}


def own_folder(cgroup_file: str = "/proc/self/cgroup") -> str | None:
    """Return the folder of the cgroup that holds this task of Slurm's alone, or None."""
    folder = next(_folders(cgroup_file), "")
    return folder if os.path.basename(folder).startswith(_TASK) else None


def in_use(folder: str) -> int | None:
    """Return the bytes that a cgroup's processes hold and cannot be taken away from them: what
    several share is counted once, files that were read (the page cache) are not."""
    lines = _read(os.path.join(folder, "memory.stat")).splitlines()
    stat = dict(line.split(" ", 1) for line in lines if " " in line)
    for names in _IN_USE:
        if names[0] in stat:
            return sum(int(stat.get(name, 0)) for name in names)
    return None


def peak(folder: str) -> int | None:
    """Return the most that a cgroup ever held, the page cache included."""
    return _number(folder, _PEAK)


def _folders(cgroup_file: str) -> Iterator[str]:
    """Yield the folder of this process's memory cgroup, and those above it."""
    try:
        with open(cgroup_file, encoding="utf-8") as stream:
            lines = [line.rstrip("\n").split(":", 2) for line in stream]
    except OSError:
        return
    paths = {controllers: path for _, controllers, path in lines}
    v1 = next((path for names, path in paths.items() if "memory" in names.split(",")), None)
    root, path = (_ROOTS[0], v1) if v1 is not None else (_ROOTS[1], paths.get("", "/"))
    while "job_" in path:  # above it, or without Slurm, the counters are of others too
        yield root + path
        path = os.path.dirname(path)


def _counter(folder: str) -> int:
    for name in _KILLS:
        for line in _read(os.path.join(folder, name)).splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
    return 0


def _number(folder: str, names: tuple[str, ...]) -> int | None:
    for name in names:
        text = _read(os.path.join(folder, name)).strip()
        if text.isdigit() and int(text) < _UNLIMITED:
            return int(text)
    return None


def _read(path: str) -> str:
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read()
    except OSError:
        return ""
