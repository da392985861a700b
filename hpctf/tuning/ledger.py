"""A study's ledger: the file by which its agents share out the trials."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import Any

from hpctf.agents.ledger import SharedLedger
from hpctf.tuning.goals import PrimaryMetricGoal
from hpctf.tuning.progress import OVER, Progress

Values = Iterable[tuple[int | None, float]]
"""Steps and values of the primary metric."""


class Ledger(SharedLedger[Progress]):
    """A study's ledger, and what it says so far.

    Parameters
    ----------
    path
        The file.
    goal, total
        The study's (`hpctf.tuning.progress.Progress`).
    """

    def __init__(self, path: str | os.PathLike[str], goal: PrimaryMetricGoal, total: int) -> None:
        super().__init__(path, Progress(goal, total))

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
