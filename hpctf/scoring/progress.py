"""What the ledger of a scoring run says: which parts there are, who scores them, what came of them.

The parts have the numbers from 0 on. Before them comes `PLAN`, which cuts the files into parts;
once all are over comes the joining of the output, whose number is that of the parts.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

PLAN = -1

OVER = ("done", "failed")
"""The states that a task does not leave."""

MOST_LOSSES = 3
"""How often the process that scores a part may die, before the part counts as failed."""


@dataclass
class Task:
    """A part, the plan or the joining.

    Parameters
    ----------
    state
        ``running``, ``waiting`` (handed back), or one of `OVER`.
    attempt
        Which start of it counts: 0 for the first.
    losses
        How often the process that had it has died.
    """

    number: int
    state: str = "running"
    attempt: int = 0
    agent: int = 0
    losses: int = 0
    reason: str = ""


class Progress:
    """A scoring run, up to the last record that was taken."""

    def __init__(self) -> None:
        self.parts: int | None = None
        """How many there are, once they are planned."""
        self.rows = 0
        self.running: dict[int, Task] = {}
        self.waiting: dict[int, Task] = {}
        self.failed: dict[int, str] = {}
        """Why parts have failed, by number."""
        self.scored: set[int] = set()
        """The parts that have been scored, here or by a run that this one goes on with."""
        self.is_joined = False
        self.stopped = ""
        """Why nothing more is to be scored; empty if it is."""
        self.closed: tuple[str, str] | None = None
        """The run's state and why, once it is over."""
        self.began = False
        self._next = 0
        self._attempts: dict[int, int] = {}

    def take(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Take records that have been appended since; damaged ones are passed over."""
        for record in records:
            kind = _KINDS.get(str(record.get("event")))
            if kind is not None:
                with contextlib.suppress(KeyError, TypeError, ValueError):
                    kind(self, record)

    @property
    def done(self) -> int:
        """How many parts have been scored."""
        return len(self.scored)

    @property
    def all_ended(self) -> bool:
        """Whether every part is over."""
        return self.parts is not None and self.done + len(self.failed) >= self.parts

    @property
    def is_complete(self) -> bool:
        """Whether nothing is left to do: without a part that was scored there is no output."""
        return self.all_ended and (self.is_joined or not self.done)

    def next_task(self, agent: int, is_lost: Callable[[int], bool]) -> int | None:
        """Return what an agent is to do next; None if there is nothing as long as others are busy.

        Its own from before it was started again comes first, then what was handed back, what a
        lost agent had, and what nobody has begun.
        """
        own = [task.number for task in self.running.values() if task.agent == agent]
        lost = [task.number for task in self.running.values() if is_lost(task.agent)]
        for candidates in (own, list(self.waiting), lost):
            if candidates:
                return min(candidates)
        if self.parts is None:
            return None if PLAN in self._attempts else PLAN
        while self._next in self.scored:
            self._next += 1
        if self._next < self.parts:
            return self._next
        is_due = self.all_ended and self.done and self.parts not in self._attempts
        return self.parts if is_due else None

    def task(self, number: int) -> Task | None:
        """Return a task that has begun and is not over."""
        return self.running.get(number) or self.waiting.get(number)

    def summary(self) -> str:
        """Return ``10,000 rows in 10 parts: 8 done, 1 failed, 1 running``."""
        if self.parts is None:
            return "its files are not cut into parts yet"
        of_parts = sum(0 <= number < self.parts for number in self.running)
        left = self.parts - self.done - len(self.failed) - of_parts
        counts = {"done": self.done, "failed": len(self.failed), "running": of_parts, "left": left}
        words = ", ".join(f"{count:,} {state}" for state, count in counts.items() if count)
        parts = "1 part" if self.parts == 1 else f"{self.parts:,} parts"
        return f"{self.rows:,} rows in {parts}: {words}"

    def _planned(self, record: Mapping[str, Any]) -> None:
        self.parts, self.rows = int(record["parts"]), int(record["rows"])
        self.running.pop(PLAN, None)
        self.waiting.pop(PLAN, None)

    def _kept(self, record: Mapping[str, Any]) -> None:
        self.scored.update(int(number) for number in record["tasks"])

    def _claimed(self, record: Mapping[str, Any]) -> None:
        number, attempt = int(record["task"]), int(record["attempt"])
        if attempt != self._attempts.get(number, -1) + 1:
            return
        task = self.task(number) or Task(number)
        if task.state == "running" and attempt:
            task.losses += 1
        task.state, task.attempt, task.agent = "running", attempt, int(record["agent"])
        self._attempts[number] = attempt
        self.waiting.pop(number, None)
        self.running[number] = task
        self._next = max(self._next, number + 1)
        self.began = True

    def _returned(self, record: Mapping[str, Any]) -> None:
        task = self._of(record)
        if task is not None:
            self.running.pop(task.number)
            self.waiting[task.number] = task
            task.state, task.reason = "waiting", str(record.get("reason", ""))
            task.losses += bool(record.get("lost"))

    def _ended(self, record: Mapping[str, Any]) -> None:
        task = self._of(record)
        if task is None:
            return
        del self.running[task.number]
        if task.number == self.parts:
            self.is_joined = record["state"] == "done"
        elif record["state"] == "done":
            self.scored.add(task.number)
        else:
            self.failed[task.number] = str(record.get("reason", ""))

    def _of(self, record: Mapping[str, Any]) -> Task | None:
        """Return the task that a record is about, unless it is of an earlier start of it."""
        task = self.running.get(int(record["task"]))
        return task if task is not None and task.attempt == record["attempt"] else None

    def _stop(self, record: Mapping[str, Any]) -> None:
        self.stopped = str(record.get("reason") or "it was stopped")

    def _closed(self, record: Mapping[str, Any]) -> None:
        self.closed = (str(record["state"]), str(record.get("reason", "")))


_KINDS: dict[str, Callable[[Progress, Mapping[str, Any]], None]] = {
    "planned": Progress._planned,
    "kept": Progress._kept,
    "claimed": Progress._claimed,
    "returned": Progress._returned,
    "ended": Progress._ended,
    "stop": Progress._stop,
    "closed": Progress._closed,
}
