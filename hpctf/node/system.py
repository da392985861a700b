"""What a rank's processes use of its node, sampled while they run: CPU, memory and GPUs.

In a thread of its own: a sick GPU driver or file server may keep a question waiting for good, and
the rank has signals to pass on meanwhile. Linux's /proc and the standard library are all that it
needs, but for GPUs (`hpctf.node.gpus`): in a container the wrapper has nothing else.
"""

from __future__ import annotations

import contextlib
import os
import resource
import threading
import time

from hpctf.common.files import append_record
from hpctf.node import memory
from hpctf.node.gpus import Gpus
from hpctf.node.messages import say
from hpctf.node.process_tree import Tree
from hpctf.node.thinning import MOST, count_rows, thin

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

NAME = "system"
FIRST_S = 1.0
"""When the first sample is taken, at the latest: short runs have one, too."""
_LAST_WORD_S = 1.0
"""How long the rank's end waits for a sample that is being taken."""
_SHORTEST_S = 0.1
"""A time after the last sample over which CPU is told: seconds come in hundredths."""


class Sampler:
    """Appends a row each `every_s` seconds to a rank's file of samples.

    Made as soon as the training has started: what it has used since is in the first row. `leader`
    is the training's process, which leads a session of its own; its environment says which GPUs it
    sees. `about` is what the record says that opens the series: attempt and host. `alone`: no other
    rank is in this process's cgroup, and its counters are the rank's.
    """

    def __init__(
        self,
        path: str,
        leader: int,
        env: Mapping[str, str],
        every_s: float,
        about: dict[str, Any],
        alone: bool,
    ) -> None:
        self._path = path
        self._env = env
        self._every_s = every_s
        self._about = {**about, "pid": leader, "every_s": every_s}
        self._tree = Tree(leader)
        self._cgroup = memory.own_folder() if alone else None
        self._gpus: Gpus | None = None
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="samples", daemon=True)
        self._at = time.monotonic()
        self._of_others_s = _ended_children_s()
        self._told_s = 0.0
        self._rows = 0
        self._began = time.time()

    def start(self) -> None:
        """Begin; what goes wrong from now on is told once, and the training goes on."""
        try:
            self._thread.start()
        except RuntimeError as error:  # the user's limit of threads
            self._complain(error)

    def finish(self) -> None:
        """Write what the processes have used since the last sample, now that they have ended."""
        self._over.set()
        if self._thread.ident is not None:
            self._thread.join(_LAST_WORD_S)
        if not self._thread.is_alive():
            with contextlib.suppress(OSError):
                self._append({"name": NAME, "row": self._last_row()})

    def _run(self) -> None:
        try:
            self._gpus = Gpus(self._env)
            self._append({"opened": {**self._about, **self._gpus.about}}, self._began)
            pause, rows = min(FIRST_S, self._every_s), count_rows(self._path)
            while not self._over.wait(pause):
                self._append({"name": NAME, "row": self._row()})
                pause, rows = self._every_s, rows + 1
                if rows >= MOST:
                    rows = thin(self._path)
        except Exception as error:  # whatever it is, it must not cost anybody a training
            self._complain(error)

    def _complain(self, error: Exception) -> None:
        say(f"{os.path.basename(self._path)}: no more samples of CPU and memory: {error}")

    def _append(self, record: dict[str, Any], at: float | None = None) -> None:
        os.makedirs(os.path.dirname(self._path), exist_ok=True)
        append_record(self._path, {**record, "time": round(at or time.time(), 3)})

    def _row(self) -> dict[str, Any]:
        used_s, processes = self._tree.look()
        self._told_s += used_s
        self._rows += 1
        row = {"cpu": round(used_s / self._since(), 3), **self._memory()}
        row["processes"] = processes
        if self._gpus is not None:
            row.update(self._gpus.row())
        return row

    def _since(self) -> float:
        before, self._at = self._at, time.monotonic()
        return max(self._at - before, 1e-3)

    def _memory(self) -> dict[str, Any]:
        """Return what is in use, how that was counted, and the most that ever was. The peak is the
        lower of two: the cgroup's has the page cache in it, and those of processes have what they
        share once for each, but not those that came and went meanwhile."""
        used = memory.in_use(self._cgroup) if self._cgroup else None
        count = "cgroup"
        if used is None:
            used, count = self._tree.memory()
        row: dict[str, Any] = {"memory": used, "memory_count": count}
        peaks = [memory.peak(self._cgroup) if self._cgroup else None]
        if self._cgroup or len(self._tree.processes) == 1:
            peaks.append(self._tree.memory_peak())
        known = [peak for peak in peaks if peak]
        if known:
            row["memory_peak"] = max(used, min(known))
        return row

    def _last_row(self) -> dict[str, Any]:
        """Return the row of the end: what the kernel has summed up of processes that are gone."""
        usage = resource.getrusage(resource.RUSAGE_CHILDREN)
        row: dict[str, Any] = {"memory_peak": usage.ru_maxrss * 1024}  # of the largest process
        since = self._since()
        if since >= _SHORTEST_S or not self._rows:
            used_s = max(0.0, _ended_children_s() - self._of_others_s - self._told_s)
            row["cpu"] = round(used_s / since, 3)
        return row


def _ended_children_s() -> float:
    """Return the CPU seconds of children that have ended, and of theirs (getrusage(2))."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
