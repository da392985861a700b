"""An agent of a scoring run: takes a part, has it scored, takes the next, until nothing is left."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from hpctf.agents.peers import BEAT_S, LOST_S, Heartbeat, Peers
from hpctf.agents.process import (
    OUT_OF_TIME,
    STOPPED,
    AgentProcess,
    heartbeat_file,
    restarts_of_job,
    signals_of_agent,
)
from hpctf.agents.supervisor import supervise
from hpctf.common.paths import SCORING_START
from hpctf.node.messages import say
from hpctf.node.signals import Signals
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.rank_states import read_job
from hpctf.scoring.agent.worker import Worker, WorkerDied
from hpctf.scoring.definition import Scoring
from hpctf.scoring.progress import MOST_LOSSES, PLAN, Progress, Task

_IDLE_LOOK_S = 0.5


def supervise_scoring(run: str, task: int) -> int:
    """Run the agents of one job of a scoring run, and return the job's exit code."""
    if "SLURM_JOB_ID" not in os.environ:
        os.environ["SUBMITIT_LOCAL_JOB_ID"] = str(os.getpid())
    per_job = Scoring(RunFolder(Path(run))).definition.per_job
    return supervise(SCORING_START, "agent", run, task, per_job)


def run_agent(run: str, number: int) -> int:
    """Run one agent of a scoring run, and return its exit code."""
    signals = signals_of_agent()
    scoring = Scoring(RunFolder(Path(run)))
    os.umask(int(scoring.folder.plan["umask"], 8))
    return Agent(scoring, number, signals, restarts_of_job()).run()


class Agent(AgentProcess):
    """One agent of a scoring run; the other parameters are an `AgentProcess`'s."""

    def __init__(self, scoring: Scoring, number: int, signals: Signals, restarts: int) -> None:
        super().__init__(scoring.folder, number, signals, restarts)
        self.ledger = scoring.ledger
        self._definition = scoring.definition
        self._worker = Worker(scoring.folder, number)
        self._peers = Peers(lambda agent: heartbeat_file(scoring.folder, agent))
        self._peers_at = 0.0

    def run(self) -> int:
        """Score parts until nothing is left, and return the exit code."""
        with Heartbeat(self._state):
            self.ledger.refresh()
            self._record_started()
            try:
                self._work()
            finally:
                self._worker.end()
            self._insist(self._close)
            self._record_ended()
        return OUT_OF_TIME if self._warned and not self.ledger.progress.closed else 0

    def look(self, seconds: float) -> None:
        """Wait for signals at most so long, and look how the other agents are."""
        super().look(seconds)
        now = time.monotonic()
        if now >= self._peers_at:
            running = self.ledger.progress.running.values()
            self._peers.look({task.agent for task in running} - {self.number})
            self._peers_at = now + BEAT_S

    def _work(self) -> None:
        """Do what is to be done.

        Where others are at the last parts, wait until it is sure that they are alive: one that has
        just died would leave its part to nobody.
        """
        alive_at = time.monotonic()
        while not self._is_to_end():
            task = self._insist(self._claim)
            if task is not None:
                self._do(task)
                alive_at = time.monotonic()
            elif self._is_over(self.ledger.progress) or self._others_do(alive_at):
                return
            else:
                self.look(_IDLE_LOOK_S)

    def _others_do(self, since: float) -> bool:
        """Whether others do all that is left, and are sure to be alive. At first one
        may be cutting large files: then there will be more to do."""
        progress = self.ledger.progress
        waited = time.monotonic() - since > LOST_S + 2 * BEAT_S
        return progress.parts is not None and bool(progress.running) and waited

    def _is_to_end(self) -> bool:
        self.look(0.0)
        return bool(self.asked)

    def _is_over(self, progress: Progress) -> bool:
        """Whether no more is to be done, whoever is still busy."""
        is_over = progress.stopped or progress.closed or progress.is_complete
        return bool(is_over) or self.folder.cancelled.exists()

    def _claim(self) -> Task | None:
        """Claim what is to be done next, if anything is."""
        with self.ledger.held() as progress:
            if not progress.began:
                host = self._host
                self._record_of_job("started", job_id=self._job_id.partition("_")[0], host=host)
            while not self._is_over(progress):
                number = progress.next_task(self.number, self._peers.is_lost)
                if number is None:
                    return None
                before = progress.task(number)
                attempt = 0 if before is None else before.attempt + 1
                self.ledger.append(
                    "claimed",
                    task=number,
                    attempt=attempt,
                    agent=self.number,
                    host=self._host,
                    job_id=self._job_id,
                )
                task = progress.running[number]
                if task.losses < MOST_LOSSES:
                    return task
                self._fail(task, f"{task.reason or 'its agent died'}, {task.losses} times")
        return None

    def _do(self, task: Task) -> None:
        progress = self.ledger.progress
        if task.number == PLAN:
            asked = {"do": "plan"}
        elif task.number == progress.parts:
            asked = {"do": "join", "failed": progress.failed}  # type: ignore[dict-item]
        else:
            asked = {"do": "score", "part": task.number}  # type: ignore[dict-item]
        attempt = task.attempt
        try:
            answer = self._worker.ask(asked, lambda: not self._is_to_end())
        except WorkerDied as error:
            say(f"part {task.number}: {error}")
            reason = str(error)
            self._insist(lambda: self._hand_back(task.number, attempt, reason, lost=True))
            return
        if answer is None:
            self._insist(lambda: self._hand_back(task.number, attempt, self.asked, lost=False))
            return
        self._insist(lambda: self._enter(task.number, attempt, answer))

    def _hand_back(self, number: int, attempt: int, reason: str, *, lost: bool) -> None:
        self.ledger.append("returned", task=number, attempt=attempt, reason=reason, lost=lost)

    def _enter(self, number: int, attempt: int, answer: dict[str, object]) -> None:
        """Put on record what came of a task."""
        with self.ledger.held() as progress:
            task = progress.running.get(number)
            if task is None or task.attempt != attempt:
                return  # somebody else has it by now, and will come to the same end
            if "fatal" in answer:
                self.ledger.append("stop", reason=answer["fatal"])
                self.ledger.append("returned", task=number, attempt=attempt, reason="")
            elif "failed" in answer:
                self._fail(task, str(answer["failed"]))
            elif number == PLAN:
                self.ledger.append("planned", **answer)
            else:
                self.ledger.append("ended", task=number, attempt=attempt, state="done")

    def _fail(self, task: Task, reason: str) -> None:
        """Put on record, the ledger being held, that a task has failed: without a plan, or without
        the joining, there is no output."""
        say(f"part {task.number} failed: {reason}")
        if task.number >= 0 and task.number != self.ledger.progress.parts:
            self.ledger.append(
                "ended", task=task.number, attempt=task.attempt, state="failed", reason=reason
            )
            return
        what = "The files cannot be looked at" if task.number == PLAN else "The output is missing"
        self.ledger.append("stop", reason=f"{what}: {reason}")
        self.ledger.append("returned", task=task.number, attempt=task.attempt, reason=reason)

    def _close(self) -> None:
        """Put the run's end on record, if it is over."""
        with self.ledger.held() as progress:
            if not progress.closed:
                verdict = self._verdict(progress)
                if verdict is not None:
                    self.ledger.append("closed", state=verdict[0], reason=verdict[1])
            closed = progress.closed
            if closed and read_job(self.folder.path).exit_code is None:
                code = {"Completed": 0, "Canceled": STOPPED}.get(closed[0], 1)
                with contextlib.suppress(OSError):
                    self._record_of_job("ended", exit_code=code, reason=closed[1])

    def _verdict(self, progress: Progress) -> tuple[str, str] | None:
        """Return the run's state and why, once it is over."""
        is_cancelled = self.folder.cancelled.exists()
        if (progress.stopped or is_cancelled) and not progress.running:
            if is_cancelled:
                return "Canceled", progress.summary()
            return "Failed", progress.stopped.rstrip(".")
        if not progress.is_complete:
            return None
        if not progress.failed:
            return "Completed", f"{progress.rows:,} rows are scored: {self._definition.out}"
        first = min(progress.failed)
        others = f" (and {len(progress.failed) - 1} more parts)" if len(progress.failed) > 1 else ""
        left = "nothing is written" if not progress.done else f"all others: {self._definition.out}"
        return "Failed", f"{progress.failed[first].rstrip('.')}{others}; {left}"
