"""A training's processes, as they come and go: what CPU they use and what memory they hold.

Source of all numbers: proc(5).
"""

from __future__ import annotations

import os
from collections.abc import Iterator

from hpctf.common.processes import stat_of

_TICK_S = 1.0 / os.sysconf("SC_CLK_TCK")
_PAGE = os.sysconf("SC_PAGESIZE")
_PSS_MOST = 2 << 30
"""Bytes up to which pages are counted one by one: measured, 10 ms a gigabyte."""
_FORGET_EVERY = 60
"""Looks after which other people's process ids are read anew: ids come round again."""


class Tree:
    """The processes of the session that a process leads, and all that they have started."""

    def __init__(self, leader: int) -> None:
        self._leader = str(leader)
        self._others: set[str] = set()
        self._looks = 0
        self.processes: dict[tuple[str, str], tuple[int, int]] = {}
        """By process id and start time: ticks of its own, and of children it has waited for."""
        self._resident = 0

    def look(self) -> tuple[float, int]:
        """Return the CPU seconds used since the last look, and how many processes there are.

        What a process used that has ended since is in the count of the one that waited for it.
        Nobody waits for one whose parent has gone: its last seconds are lost, but never do they
        count against what others use.
        """
        before, self.processes = self.processes, {}
        self._resident = 0
        own = waited = 0
        for pid, fields in self._found():
            key = (pid, fields[19])
            now = (int(fields[11]) + int(fields[12]), int(fields[13]) + int(fields[14]))
            then = before.pop(key, (0, 0))
            own += now[0] - then[0]
            waited += now[1] - then[1]
            self.processes[key] = now
            self._resident += int(fields[21]) * _PAGE
        counted_before = sum(sum(gone) for gone in before.values())
        return (max(0, own) + max(0, waited - counted_before)) * _TICK_S, len(self.processes)

    def memory(self) -> tuple[int, str]:
        """Return the bytes that the processes hold, and how they were counted.

        ``rss``: what one process has in memory, or the sum of several; ``pss``: with what several
        share divided among them, where there is not too much to count.
        """
        if len(self.processes) > 1 and self._resident <= _PSS_MOST:
            shares = [_kilobytes(pid, "smaps_rollup", "Pss:") for pid, _ in self.processes]
            if any(shares):
                return sum(shares), "pss"
        return self._resident, "rss"

    def memory_peak(self) -> int:
        """Return the sum of the most that each process has ever held."""
        return sum(_kilobytes(pid, "status", "VmHWM:") for pid, _ in self.processes)

    def _found(self) -> Iterator[tuple[str, list[str]]]:
        """Yield the processes' ids and stat fields, from the third on (the state)."""
        self._looks += 1
        if self._looks % _FORGET_EVERY == 0:
            self._others.clear()
        known = {pid for pid, _ in self.processes} | {self._leader}
        # A process is younger than its parent: its id is larger, but for once in a long while.
        for pid in sorted(filter(str.isdigit, os.listdir("/proc")), key=int):
            if pid in self._others:
                continue
            fields = stat_of(pid)
            if not fields:
                continue  # it has ended meanwhile
            if fields[3] == self._leader or fields[1] in known:
                known.add(pid)
                yield pid, fields
            else:
                self._others.add(pid)


def _kilobytes(pid: str, name: str, key: str) -> int:
    """Return the bytes of a line of one of a process's files; 0 if it cannot be read."""
    try:
        with open(f"/proc/{pid}/{name}", encoding="utf-8", errors="replace") as stream:
            line = next((line for line in stream if line.startswith(key)), "")
    except OSError:
        return 0
    words = line.split()
    return int(words[1]) * 1024 if len(words) > 1 else 0
