"""What a study's ledger says: which trials there are, who runs them, what they have logged.

The ledger's records are the truth, in their order. `Progress` takes them one by one and answers
every question about the study, for agents and for the command line alike. It reads no file.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from hpctf.tuning.goals import PrimaryMetricGoal
from hpctf.tuning.histories import Histories

OVER = ("completed", "stopped", "failed", "canceled")
"""The states that a trial does not leave."""

FIRST_FAILURES = 5
"""If this many trials have ended, all of them failed and none logged the metric, the study ends."""

MOST_LOSSES = 3
"""How often the agent of a trial may die while it runs, before the trial counts as failed."""


@dataclass
class Entry:
    """One trial, as the ledger tells.

    Parameters
    ----------
    state
        ``running``, ``waiting`` (its agent has handed it back), or one of `OVER`.
    attempt
        Which start of it counts: 0 for the first.
    losses
        How often its agent has died meanwhile.
    best, last
        Of the primary metric; ``best`` is None without a finite value, ``last`` without any.
    count
        How many of its values the ledger has: all of them, but where no policy needs them and a
        trial logs hundreds at a time.
    parameters
        What the search has drawn for it; empty where all trials were drawn before the first one.
    drawn_as
        Its number in the search.
    objectives
        The last value of each metric that counts, where there are several.
    """

    number: int
    state: str = "running"
    attempt: int = 0
    agent: int = 0
    host: str = ""
    job_id: str = ""
    claimed: float = 0.0
    ended: float | None = None
    losses: int = 0
    best: float | None = None
    last: float | None = None
    count: int = 0
    reason: str = ""
    parameters: dict[str, Any] = field(default_factory=dict)
    drawn_as: int | None = None
    objectives: dict[str, float] = field(default_factory=dict)

    @property
    def is_over(self) -> bool:
        return self.state in OVER

    @property
    def stage(self) -> str:
        """Its state, or ``queued`` if it is a job that has not begun yet."""
        return "queued" if self.state == "running" and not self.host else self.state


class Progress:
    """A study, up to the last record that was taken.

    Parameters
    ----------
    goal
        Whether more of the primary metric is better.
    total
        The largest number of trials.
    """

    def __init__(self, goal: PrimaryMetricGoal, total: int) -> None:
        self.goal = goal
        self.total = total
        self.histories = Histories(goal)
        self.trials: dict[int, Entry] = {}
        self.most: int | None = None
        """How many trials may run at a time, once somebody has changed it."""
        self.began: float | None = None
        """When the first trial of the latest submission was claimed."""
        self.submission = 0
        self.agents = 0
        self.stopped = ""
        """Why the study is to end before its trials have; empty if it is not."""
        self.stopped_by = ""
        """The user who has stopped it; empty if it stopped by itself."""
        self.driver = ""
        """The process that drives the study (`hpctf.common.link_locks.holder_name`); empty if none
        does."""
        self.term = 0
        """How often that has changed."""
        self.closed: tuple[str, str] | None = None
        """The study's state and why, once it is over."""
        self._next = 0

    def take(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Take records that have been appended since. Those of an unknown kind, of a newer hpctf,
        and damaged ones are passed over."""
        for record in records:
            kind = _KINDS.get(str(record.get("event")))
            if kind is not None:
                with contextlib.suppress(KeyError, TypeError, ValueError):
                    kind(self, record)

    def next_trial(self, agent: int, is_lost: Callable[[int], bool]) -> int | None:
        """Return the trial that an agent is to run next; None if nothing is left to take.

        Its own from before it was started again comes first, then one that was handed back, one
        whose agent `is_lost`, and one that nobody has begun.
        """
        running = [trial for trial in self.trials.values() if trial.state == "running"]
        own = [trial.number for trial in running if trial.agent == agent]
        waiting = [trial.number for trial in self.trials.values() if trial.state == "waiting"]
        lost = [trial.number for trial in running if is_lost(trial.agent)]
        for candidates in (own, waiting, lost):
            if candidates:
                return min(candidates)
        return self._next if self._next < self.total else None

    @property
    def running(self) -> list[Entry]:
        """The trials that agents have."""
        return [trial for trial in self.trials.values() if trial.state == "running"]

    @property
    def all_ended(self) -> bool:
        """Whether no trial is left to run or running."""
        ended = sum(trial.is_over for trial in self.trials.values())
        return ended == len(self.trials) and self._next >= self.total

    def best(self, *, include_failed: bool = True, include_canceled: bool = True) -> Entry | None:
        """Return the trial with the best value of all that it has logged, the first of equals.

        Parameters
        ----------
        include_failed, include_canceled
            Whether trials count that failed, and those that were cancelled or stopped early.
        """
        ranked = self.ranked(include_failed=include_failed, include_canceled=include_canceled)
        return next((trial for trial in ranked if trial.best is not None), None)

    def ranked(self, *, include_failed: bool = True, include_canceled: bool = True) -> list[Entry]:
        """Return the trials, the best first; those without a value last."""
        left_out = set() if include_failed else {"failed"}
        if not include_canceled:
            left_out |= {"stopped", "canceled"}
        chosen = [trial for trial in self.trials.values() if trial.state not in left_out]
        sign = self.goal.sign
        return sorted(
            chosen,
            key=lambda t: (t.best is None, -sign * (t.best or 0.0), t.number),
        )

    def hopeless(self) -> str:
        """Return why the study is to end: its first trials have all failed before they logged the
        metric. Empty if they have not."""
        ended = [trial for trial in self.trials.values() if trial.is_over]
        if len(ended) < min(FIRST_FAILURES, self.total):
            return ""
        if any(trial.state != "failed" or trial.count for trial in ended):
            return ""
        first = min(ended, key=lambda trial: trial.number)
        return (
            f"the first {len(ended)} trials all failed before they logged the metric; "
            f"trial {first.number}: {first.reason}"
        )

    def summary(self) -> str:
        """Return ``12 trials: 9 completed, 2 stopped early, 1 failed``."""
        words = {"stopped": "stopped early", "canceled": "cancelled"}
        counts = dict.fromkeys((*OVER, "running", "waiting"), 0)
        for trial in self.trials.values():
            counts[trial.state] += 1
        parts = [f"{n} {words.get(state, state)}" for state, n in counts.items() if n]
        left = self.total - self._next
        if left > 0:
            parts.append(f"{left} not started")
        trials = "1 trial" if self.total == 1 else f"{self.total} trials"
        return f"{trials}: {', '.join(parts)}"

    def _of(self, record: Mapping[str, Any]) -> Entry | None:
        """Return the trial that a record is about, unless it is of an earlier start of it."""
        trial = self.trials.get(record.get("trial", -1))
        if trial is None or trial.is_over or record.get("attempt") != trial.attempt:
            return None
        return trial

    def _submitted(self, record: Mapping[str, Any]) -> None:
        self.submission = int(record["submission"])
        self.agents = int(record["agents"])
        self.most = None
        self.began = self.closed = None
        self.stopped = self.stopped_by = ""

    def _agents(self, record: Mapping[str, Any]) -> None:
        self.agents = int(record["agents"])

    def _claimed(self, record: Mapping[str, Any]) -> None:
        number, attempt = int(record["trial"]), int(record["attempt"])
        trial = self.trials.get(number)
        if trial is not None and (trial.is_over or attempt != trial.attempt + 1):
            return
        if trial is None:
            trial = self.trials[number] = Entry(number)
            trial.parameters = dict(record.get("parameters") or {})
            trial.drawn_as = record.get("drawn_as")
        elif trial.state == "running":
            trial.losses += 1
        trial.state, trial.attempt = "running", attempt
        trial.agent = int(record["agent"])
        trial.host, trial.job_id = str(record.get("host", "")), str(record.get("job_id", ""))
        trial.claimed = float(record["time"])
        trial.reason = ""
        self._next = max(self._next, number + 1)
        self.began = self.began or trial.claimed

    def _job(self, record: Mapping[str, Any]) -> None:
        trial = self._of(record)
        if trial is not None:
            trial.job_id = str(record["job_id"])
            trial.host = str(record.get("host") or "")

    def _driver(self, record: Mapping[str, Any]) -> None:
        self.term = int(record["term"])
        self.driver = str(record["holder"])

    def _logged(self, record: Mapping[str, Any]) -> None:
        trial = self._of(record)
        if trial is None:
            return
        for step, logged in record["values"]:
            value = float(logged)
            if self.histories.add(trial.number, value, step) is None:
                continue  # a step from before it was interrupted
            trial.count += 1
            trial.last = value
            sign = self.goal.sign
            is_better = trial.best is None or value * sign > trial.best * sign
            if math.isfinite(value) and is_better:
                trial.best = value

    def _returned(self, record: Mapping[str, Any]) -> None:
        trial = self._of(record)
        if trial is not None:
            trial.state, trial.reason = "waiting", str(record.get("reason", ""))

    def _ended(self, record: Mapping[str, Any]) -> None:
        trial = self._of(record)
        if trial is not None and record.get("state") in OVER:
            trial.state, trial.reason = record["state"], str(record.get("reason", ""))
            trial.ended = float(record["time"])
            found = record.get("objectives") or {}
            trial.objectives = {str(name): float(value) for name, value in found.items()}

    def _stop(self, record: Mapping[str, Any]) -> None:
        self.stopped = str(record.get("reason") or "it was stopped")
        self.stopped_by = str(record.get("by") or "")

    def _parallel(self, record: Mapping[str, Any]) -> None:
        self.most = int(record["most"])

    def _closed(self, record: Mapping[str, Any]) -> None:
        self.closed = (str(record["state"]), str(record.get("reason", "")))


_KINDS: dict[str, Callable[[Progress, Mapping[str, Any]], None]] = {
    "submitted": Progress._submitted,
    "agents": Progress._agents,
    "claimed": Progress._claimed,
    "job": Progress._job,
    "driver": Progress._driver,
    "logged": Progress._logged,
    "returned": Progress._returned,
    "ended": Progress._ended,
    "stop": Progress._stop,
    "parallel": Progress._parallel,
    "closed": Progress._closed,
}
