"""Waiting for a run, or following it: its folder is looked at often, the scheduler seldom, and not
at all about the end of a run whose own records say how it ended."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import wait as futures_wait
from typing import TYPE_CHECKING

from hpctf.errors import SchedulerError
from hpctf.run_folder.rank_states import JOB_STATE, JobRecord, read_job, read_ranks
from hpctf.runs.explain import reasons
from hpctf.runs.status.determine import by_its_own_word
from hpctf.runs.status.query import from_folder, look, scheduler_of
from hpctf.runs.status.state import RunState

if TYPE_CHECKING:
    from hpctf.run_folder.layout import RunFolder
    from hpctf.run_folder.logs import LogPrinter

_END_LOOK_S = 0.4
"""Seconds between two looks at the job's own record, which is one file."""
_LOOK_S = (0.2, 2.0)
_ASK_S = (2.0, 30.0)
"""Shortest and longest pause between looks at all ranks' records, and at what the scheduler says:
how often it is really asked, `hpctf.scheduler.shared_answers` has to say."""
_FINALIZING_S = 0.5
_NEWER_S = 5.0
"""How old an answer may be while the job is about to go."""
_ASK_STUCK_S = 5.0

NEVER_S = 60.0
"""Seconds for which a job must have had a reason that keeps it from ever starting
(`hpctf.runs.explain.reasons`) before nobody waits for it any longer: slurmctld gives some of them
for moments, such as while slurmdbd is away."""


def wait(
    run: RunFolder,
    on_change: Callable[[RunState, float], None] | None,
    printers: Sequence[LogPrinter] = (),
) -> RunState:
    """Return the run's final status once there is one; see `Run.wait_for_completion`.

    A scheduler that is away is asked again for as long as it takes, and `on_change` is told;
    the log goes on meanwhile.

    Raises
    ------
    SchedulerError
        The job will never start: its reason has said so for `NEVER_S`. It is still queued.
    """
    began = ask_at = look_at = time.monotonic()
    status: RunState | None = None
    question: _Question | None = None
    away_since = ""
    known = JobRecord()
    stuck, record = _Stuck(run), _JobsRecord(run)
    while True:
        now = time.monotonic()
        own = record.end()
        due = now >= ask_at or _has_come_to_an_end(record.job, status, known)
        if own is None and question is None and due:
            known = record.job
            question = _Question(run, record.changed, status)
        pause = min(_LOOK_S[1], max(_LOOK_S[0], (now - began) / 60))
        answer = question.answer(min(pause, _END_LOOK_S)) if question and own is None else None
        if own is not None:
            status = own
        elif answer is not None:
            away_since = (away_since or time.strftime("%H:%M:%S")) if answer.away else ""
            status = stuck.looked(_keep(run, status, answer, away_since))
            now = time.monotonic()
            ask_in = min(_ASK_S[1], max(_ASK_S[0], (now - began) / 10))
            if status.state == "Finalizing":  # the job is about to go
                ask_in = _FINALIZING_S
            ask_at = now + (ask_in if stuck.since is None else min(ask_in, _ASK_STUCK_S))
            question = None
        elif status is not None and now >= look_at:
            status, look_at = _look(run, status), now + pause
        for printer in printers:
            printer.show(final=status is not None and status.final)
        if status is not None:
            if on_change:
                on_change(status, time.monotonic() - began)
            if status.final:
                return status
        stuck.refuse()
        if question is None:
            time.sleep(min(pause, _END_LOOK_S))


class _JobsRecord:
    """What a run's job has put on record, read when that has changed."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._file = run.state / JOB_STATE
        self._seen = self._stamp()
        self.job = read_job(run.path)

    def end(self) -> RunState | None:
        """Return the final status if the job has told its end since the last look, and leaves
        nothing to ask for (`hpctf.runs.status.determine.by_its_own_word`). What stood there before
        the first look may be of a start that Slurm has put back into the queue."""
        seen = self._stamp()
        if seen == self._seen:
            return None
        self._seen, self.job = seen, read_job(self._run.path)
        record = self._run.read_record()
        return None if record.get("job_id") is None else by_its_own_word(self._run, record)

    @property
    def changed(self) -> float:
        """When the job last put something on record, in seconds since the epoch; 0 if never."""
        return min(self._seen[1] / 1e9, time.time())

    def _stamp(self) -> tuple[int, int]:
        try:  # opened: NFS then looks at its server's, and not at what it remembers (nfs(5))
            with open(self._file, "rb") as stream:
                found = os.fstat(stream.fileno())
        except OSError:
            return 0, 0
        return found.st_size, found.st_mtime_ns


class _Stuck:
    """Whether a run's job waits for what will never come, and since when."""

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._reason = ""
        self.since: float | None = None

    def looked(self, status: RunState) -> RunState:
        """Note what an answer of the scheduler's says, and return it with that in words."""
        if status.away:
            return status
        waits = status.state == "Queued" and self._run.plan["scheduler"] == "slurm"
        if not (waits and reasons.explain(status.reason, "").never):
            self.since, self._reason = None, ""
            return status
        if self.since is None:
            self.since = time.monotonic()
        self._reason = status.reason
        return status._replace(reason=f"{status.reason}: it will never start as it is")

    def refuse(self) -> None:
        """Raise `SchedulerError` once it has been so for `NEVER_S`."""
        if self.since is None or time.monotonic() - self.since < NEVER_S:
            return
        why = reasons.explain(self._reason, str(self._run.job_id))
        raise SchedulerError(
            f"Run {self._run.id} will never start: {why.meaning} (Slurm says {self._reason}).",
            f"It is still in the queue. {why.advice} To cancel it: hpctf cancel {self._run.id}",
        )


class _Question:
    """One look at the run with the scheduler's help, which may take long to answer.

    In a thread that nobody waits for: neither the log nor an interrupted wait stands still.
    """

    def __init__(self, run: RunFolder, changed: float, status: RunState | None) -> None:
        since = changed
        if status is not None and status.state == "Finalizing":
            since = max(changed, time.time() - _NEWER_S)
        self._answer: Future[RunState] = Future()
        threading.Thread(target=self._ask, args=(run, since), daemon=True).start()

    def answer(self, timeout: float) -> RunState | None:
        """Return the status, or None if it has not come in time."""
        done, _ = futures_wait([self._answer], timeout)
        return self._answer.result() if done else None

    def _ask(self, run: RunFolder, since: float) -> None:
        try:
            self._answer.set_result(look(run, since))
        except BaseException as error:
            self._answer.set_exception(error)


def _keep(run: RunFolder, before: RunState | None, answer: RunState, away_since: str) -> RunState:
    """Return the answer; of a scheduler that is away, what was known before stays so. Raises
    `SchedulerError` if this machine has no way to ask it, and never will."""
    if not answer.away or answer.final:
        return answer
    scheduler_of(run).require()
    known = answer if before is None else _look(run, before)
    words = f"the scheduler has not answered since {away_since}: {answer.away}"
    return known._replace(reason=words, away=answer.away)


def _has_come_to_an_end(own: JobRecord, status: RunState | None, known: JobRecord) -> bool:
    """Whether the job has left a verdict that it had not when the scheduler was last asked."""
    if status is None or status.away or status.state == "Finalizing":
        return False
    return own.exit_code is not None and own != known


def _look(run: RunFolder, before: RunState) -> RunState:
    """Return the status with the ranks as they are now, without asking the scheduler."""
    if before.away:
        told = from_folder(run, before.away)
        if told.final:
            return told
    ranks = tuple(read_ranks(run.path, run.plan))
    # A requeued job's ranks have started before: only what is new tells that it runs.
    new = any(now.started != then.started for now, then in zip(ranks, before.ranks, strict=True))
    waiting = before.state in ("Queued", "Preparing")
    state = "Running" if new and waiting and any(rank.started for rank in ranks) else before.state
    reason = "" if state != before.state and not before.away else before.reason
    return before._replace(ranks=ranks, state=state, reason=reason)


class Following:
    """A run's status, kept up to date by a thread that nobody waits for; the run is left alone.

    The run folder is looked at often, the scheduler seldom: as `Run.wait_for_completion` does.
    """

    def __init__(self, run: RunFolder) -> None:
        self._run = run
        self._status: RunState | None = None
        self._error: BaseException | None = None
        self._changed = threading.Event()
        threading.Thread(target=self._follow, name="status", daemon=True).start()

    def status(self, timeout: float = 0.0) -> RunState | None:
        """Return what is known now, or None before the first answer, waiting for it so long.

        Raises
        ------
        Exception
            What keeps the state from being told, such as a scheduler that is not there.
        """
        deadline = time.monotonic() + timeout
        while self._status is None and self._error is None and time.monotonic() < deadline:
            self._changed.wait(deadline - time.monotonic())
        if self._error is not None:
            raise self._error
        return self._status

    def _follow(self) -> None:
        try:
            wait(self._run, self._keep)
        except BaseException as error:
            self._error = error
            self._changed.set()

    def _keep(self, status: RunState, waited: float) -> None:
        self._status = status
        self._changed.set()
