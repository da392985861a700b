"""Which agents of a run have died: their state files' time stamps no longer change.

Clocks of nodes and file servers differ, so no stamp is compared with a clock: an agent counts as
dead once this process has seen its stamp unchanged for a while.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path

from hpctf.agents.silence import Silence

BEAT_S = 3.0
"""How often an agent sets its own time stamp."""

LOST_S = 15.0
"""How long a stamp is unchanged until its agent counts as dead: five beats."""


class Heartbeat:
    """Sets the time stamps of this process, in a thread: copying a large snapshot takes longer
    than a beat, and so may waiting for the ledger."""

    def __init__(self, *paths: Path, beat_s: float = BEAT_S) -> None:
        self._paths = paths
        self._beat_s = beat_s
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="heartbeat", daemon=True)

    def __enter__(self) -> Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(self._beat_s):
            for path in self._paths:
                with contextlib.suppress(OSError):
                    os.utime(path)


class Peers:
    """What one agent knows of the others.

    Parameters
    ----------
    stamp_of
        Returns the file whose time stamp an agent sets.
    clock
        Returns seconds; for tests.
    """

    def __init__(
        self, stamp_of: Callable[[int], Path], clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._stamp_of = stamp_of
        self._clock = clock
        self._agents: dict[int, Silence] = {}

    def look(self, agents: Iterable[int]) -> None:
        """Look at the stamps of agents, as often as they are set."""
        for agent in agents:
            self.is_lost(agent)

    def is_lost(self, agent: int) -> bool:
        """Whether an agent has been silent for too long."""
        if agent not in self._agents:
            self._agents[agent] = Silence(LOST_S, self._clock)
        return self._agents[agent].look(self._stamp_of(agent))
