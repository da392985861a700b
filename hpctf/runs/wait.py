"""Waiting for a run: its folder is looked at often, the scheduler seldom."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from hpctf.runs.state import Status
from hpctf.runs.statuses import from_folder
from hpctf.verdict import JobRecord, read_job, read_ranks

if TYPE_CHECKING:
    from hpctf.runs.logs import LogPrinter, LogPrinters
    from hpctf.runs.run import Run

_LOOK_S = (0.2, 2.0)
_ASK_S = (2.0, 30.0)
"""Shortest and longest pause between looks at the run folder, and questions to the scheduler."""
_FINALIZING_S = 0.5


def wait(
    run: Run,
    on_change: Callable[[Status, float], None] | None,
    printer: LogPrinter | LogPrinters | None,
) -> Status:
    """Return the run's final status once there is one; see `Run.wait_for_completion`.

    A scheduler that is away is asked again for as long as it takes, and `on_change` is told;
    the log goes on meanwhile.
    """
    began = ask_at = time.monotonic()
    status: Status | None = None
    question: _Question | None = None
    away_since = ""
    known = JobRecord()
    while True:
        now = time.monotonic()
        if question is None and (now >= ask_at or _has_come_to_an_end(run, status, known)):
            known = read_job(run.folder.path)
            question = _Question(run)
        pause = min(_LOOK_S[1], max(_LOOK_S[0], (now - began) / 60))
        answer = question.answer(pause) if question else None
        if answer is not None:
            away_since = (away_since or time.strftime("%H:%M:%S")) if answer.away else ""
            status = _keep(run, status, answer, away_since)
            ask_at = time.monotonic() + _pause(status, time.monotonic() - began)
            question = None
        elif status is not None:
            status = _look(run, status)
        if printer is not None:
            printer.show(final=status is not None and status.final)
        if status is not None:
            if on_change:
                on_change(status, time.monotonic() - began)
            if status.final:
                return status
        if question is None:
            time.sleep(pause)


class _Question:
    """One look at the run with the scheduler's help, which may take long to answer.

    In a thread that nobody waits for: neither the log nor an interrupted wait stands still.
    """

    def __init__(self, run: Run) -> None:
        self._answers: queue.SimpleQueue[Status | BaseException] = queue.SimpleQueue()
        threading.Thread(target=self._ask, args=(run,), daemon=True).start()

    def answer(self, timeout: float) -> Status | None:
        """Return the status, or None if it has not come in time."""
        try:
            answer = self._answers.get(timeout=timeout)
        except queue.Empty:
            return None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _ask(self, run: Run) -> None:
        try:
            self._answers.put(run.look())
        except BaseException as error:
            self._answers.put(error)


def _keep(run: Run, before: Status | None, answer: Status, away_since: str) -> Status:
    """Return the answer; of a scheduler that is away, what was known before stays so.

    Raises
    ------
    SchedulerError
        This machine has no way to ask it, and never will.
    """
    if not answer.away or answer.final:
        return answer
    run.scheduler().require()
    known = answer if before is None else _look(run, before)
    words = f"the scheduler has not answered since {away_since}: {answer.away}"
    return known._replace(reason=words, away=answer.away)


def _has_come_to_an_end(run: Run, status: Status | None, known: JobRecord) -> bool:
    """Whether the job has left a verdict that it had not when the scheduler was last asked."""
    if status is None or status.away or status.state == "Finalizing":
        return False
    own = read_job(run.folder.path)
    return own.exit_code is not None and own != known


def _pause(status: Status, waited: float) -> float:
    """Return the seconds until the scheduler is asked again; a job about to go, it is soon."""
    if status.state == "Finalizing":
        return _FINALIZING_S
    return min(_ASK_S[1], max(_ASK_S[0], waited / 10))


def _look(run: Run, before: Status) -> Status:
    """Return the status with the ranks as they are now, without asking the scheduler."""
    if before.away:
        told = from_folder(run, before.away)
        if told.final:
            return told
    ranks = tuple(read_ranks(run.folder.path, run.plan))
    # A requeued job's ranks have started before: only what is new tells that it runs.
    new = any(now.started != then.started for now, then in zip(ranks, before.ranks, strict=True))
    waiting = before.state in ("Queued", "Preparing")
    state = "Running" if new and waiting and any(rank.started for rank in ranks) else before.state
    reason = "" if state != before.state and not before.away else before.reason
    return before._replace(ranks=ranks, state=state, reason=reason)
