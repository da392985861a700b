"""A study's ledger: the file by which its agents share out the trials.

One JSON record a line, in `hpctf.tuning.journal.Journal`: a torn tail, a lock holder that died and
a full disk cost nothing. Each reader remembers how far it has read, so that a study's cost grows
with its records, not with their square.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from hpctf.tuning.goals import PrimaryMetricGoal
from hpctf.tuning.journal import Journal
from hpctf.tuning.progress import OVER, Progress

LEDGER = "ledger.jsonl"
"""Its name in the study's folder."""

Values = Iterable[tuple[int | None, float]]
"""Steps and values of the primary metric."""


class Ledger:
    """A study's ledger, and what it says so far.

    Parameters
    ----------
    path
        The file.
    goal, total
        The study's (`hpctf.tuning.progress.Progress`).
    """

    def __init__(self, path: str | os.PathLike[str], goal: PrimaryMetricGoal, total: int) -> None:
        self._journal = Journal(path)
        self._count = 0
        self._is_held = False
        self.guard: Callable[[Progress], None] | None = None
        """Called before each record, the ledger being held: it raises if none is to be appended."""
        self.progress = Progress(goal, total)

    def refresh(self) -> Progress:
        """Read what has been appended since, and return what the ledger says now."""
        records = self._journal.read_logs(self._count)
        self._count += len(records)
        self.progress.take(records)
        return self.progress

    @contextlib.contextmanager
    def held(self) -> Iterator[Progress]:
        """Hold the ledger for a block: what it says does not change but by what the block appends.

        Raises
        ------
        RunFolderError
            The file system refuses.
        """
        if self._is_held:
            yield self.progress
            return
        with self._journal.held():
            self._is_held = True
            try:
                yield self.refresh()
            finally:
                self._is_held = False

    def append(self, event: str, **more: Any) -> Progress:
        """Append a record, and return what the ledger says then."""
        with self.held() as progress:
            if self.guard is not None:
                self.guard(progress)
            self._journal.append_logs([{"event": event, "time": time.time(), **more}])
            return self.refresh()

    def claim(self, trial: int, agent: int, host: str, job_id: str, **more: Any) -> int:
        """Give a trial to an agent, and return which start of it this is. Hold the ledger."""
        known = self.progress.trials.get(trial)
        attempt = 0 if known is None else known.attempt + 1
        self.append(
            "claimed", trial=trial, attempt=attempt, agent=agent, host=host, job_id=job_id, **more
        )
        return attempt

    def job(self, trial: int, attempt: int, job_id: str, host: str = "") -> Progress:
        """Enter the job of a trial that has one of its own, and where it has begun."""
        return self.append("job", trial=trial, attempt=attempt, job_id=job_id, host=host)

    def log(self, trial: int, attempt: int, values: Values) -> Progress:
        """Enter values of the primary metric that a trial has logged."""
        plain = [[step, _plain(value)] for step, value in values]
        return self.append("logged", trial=trial, attempt=attempt, values=plain)

    def end(self, trial: int, attempt: int, state: str, reason: str = "", **more: Any) -> Progress:
        """Enter how a trial has ended; of a start that no longer counts nothing is kept."""
        assert state in OVER
        ended = {"trial": trial, "attempt": attempt, "state": state, "reason": reason}
        return self.append("ended", **ended, **more)

    def hand_back(self, trial: int, attempt: int, reason: str) -> Progress:
        """Let another agent, or this one once it is back, go on with a trial."""
        return self.append("returned", trial=trial, attempt=attempt, reason=reason)


def _plain(value: float) -> float | str:
    """Return a number that is JSON: ``nan`` and ``inf`` as text, which `float` reads."""
    number = float(value)
    return number if math.isfinite(number) else str(number)
