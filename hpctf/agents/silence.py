"""Whether whoever sets a file's time stamp has been silent for too long."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable
from pathlib import Path


class Silence:
    """What one process has seen of a time stamp, by its own clock: hosts' clocks differ.

    Where this process could not look for a while, what held it up may have held up the others, too:
    then it begins to watch anew.

    Parameters
    ----------
    lost_s
        How many seconds the stamp is unchanged until that is too long.
    clock
        Returns seconds.
    """

    def __init__(self, lost_s: float, clock: Callable[[], float]) -> None:
        self._lost_s = lost_s
        self._clock = clock
        self._seen: tuple[Path, float] | None = None
        self._since = self._looked = clock()

    def look(self, file: Path) -> bool:
        """Look at the stamp, as often as it is set; return whether it is unchanged for too long."""
        stamp = 0.0
        with contextlib.suppress(OSError):
            stamp = os.stat(file).st_mtime
        now = self._clock()
        was_away = now - self._looked > self._lost_s / 2
        self._looked = now
        if (file, stamp) != self._seen or was_away:
            self._seen, self._since = (file, stamp), now
        return now - self._since > self._lost_s
