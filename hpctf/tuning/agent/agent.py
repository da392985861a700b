"""An agent: takes a trial, runs it, reports, takes the next, until nothing is left.

In the study's run folder it is a rank like any other: ``state/worker-3.jsonl`` says when it began
and ended, and its time stamp that it is alive.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from hpctf.agents.peers import BEAT_S, LOST_S, Heartbeat, Peers
from hpctf.agents.process import restarts_of_job, signals_of_agent
from hpctf.errors import HpctfError
from hpctf.node.messages import say
from hpctf.node.signals import Signals
from hpctf.run_folder.layout import RunFolder
from hpctf.tuning.agent.ending import SUPERSEDED, Ending
from hpctf.tuning.agent.study_process import StudyProcess
from hpctf.tuning.agent.trial_folder import open_trial
from hpctf.tuning.agent.trial_run import TrialRun
from hpctf.tuning.progress import MOST_LOSSES, Progress
from hpctf.tuning.study import Study

_IDLE_LOOK_S = 1.0


def run_agent(study: str, number: int) -> int:
    """Run one agent of a study, and return its exit code."""
    signals = signals_of_agent()
    found = Study(RunFolder(Path(study)))
    os.umask(int(found.folder.plan["umask"], 8))
    return Agent(found, number, signals, restarts_of_job()).run()


class Agent(StudyProcess):
    """One agent of a study; the parameters are a `StudyProcess`'s."""

    def __init__(self, study: Study, number: int, signals: Signals, restarts: int) -> None:
        super().__init__(study, number, signals, restarts)
        self._peers = Peers(study.heartbeat_file)
        self._peers_at = 0.0

    def run(self) -> int:
        """Run trials until nothing is left, and return the exit code."""
        with Heartbeat(self._state):
            return self._on_duty(self._work)

    def _work(self) -> None:
        while (number := self._next()) is not None:
            self._run(number, self.progress.trials[number].attempt)
            if self.asked:
                break

    def look(self, seconds: float) -> None:
        """Wait for signals at most so long, and look how the other agents are."""
        super().look(seconds)
        now = time.monotonic()
        if now >= self._peers_at:
            self._peers.look({trial.agent for trial in self.progress.running} - {self.number})
            self._peers_at = now + BEAT_S

    def _next(self) -> int | None:
        """Claim a trial and return its number; None if this agent is to end.

        Where others still run the last trials, it waits until it is sure that they are alive: one
        that has just died would leave its trial to nobody.
        """
        idle_until = time.monotonic() + LOST_S + 2 * BEAT_S
        while True:
            self.look(0.0)
            if self.asked:
                return None
            number, is_over = self._insist(self._claim_next)
            if number is not None or is_over:
                return number
            if not self.progress.running or time.monotonic() > idle_until:
                return None
            self.look(_IDLE_LOOK_S)

    def _claim_next(self) -> tuple[int | None, bool]:
        """Return the trial that was claimed, if one was, and whether this agent is to end."""
        with self.ledger.held() as progress:
            while not self._is_to_end(progress):
                number = progress.next_trial(self.number, self._peers.is_lost)
                if number is None:
                    return None, False
                if not self._is_given_up(number):
                    self._claim(number, self._host)
                    return number, False
        return None, True

    def _is_to_end(self, progress: Progress) -> bool:
        if self._is_over(progress):
            return True
        others = [trial for trial in progress.running if trial.agent != self.number]
        return len(others) >= (progress.most or self.study.definition.parallel)

    def _is_given_up(self, number: int) -> bool:
        """End a trial, the ledger being held, whose agents have died again and again."""
        known = self.progress.trials.get(number)
        if known is None or known.state != "running" or known.losses + 1 < MOST_LOSSES:
            return False
        reason = f"its agent died {MOST_LOSSES} times while it ran (killed, or its node failed)"
        self.ledger.end(number, known.attempt, "failed", reason)
        return True

    def _run(self, number: int, attempt: int) -> None:
        try:
            trial = open_trial(self.study, number, attempt, self._job_id)
            say(f"trial {number}, start {attempt}: {trial.path}")
            ending = TrialRun(self, trial, number, attempt).run()
        except (OSError, HpctfError) as error:
            ending = Ending("failed", f"it could not be run on {self._host}: {error}")
        say(f"trial {number}: {ending.state}{': ' + ending.reason if ending.reason else ''}")
        if ending.state != SUPERSEDED:
            self._insist(lambda: self._report(number, attempt, ending))
        self._tell_search()
