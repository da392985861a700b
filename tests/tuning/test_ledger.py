"""The ledger: every trial is claimed by one agent at a time, and accounted for once."""

from __future__ import annotations

import math
import multiprocessing
import os
import signal
import time
from pathlib import Path

import pytest

from hpctf.tuning.goals import PrimaryMetricGoal
from hpctf.tuning.ledger import Ledger
from hpctf.tuning.progress import FIRST_FAILURES

MAXIMIZE = PrimaryMetricGoal.MAXIMIZE
MINIMIZE = PrimaryMetricGoal.MINIMIZE


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "ledger.jsonl"


def ledger_of(path: Path, total: int = 4, goal: PrimaryMetricGoal = MAXIMIZE) -> Ledger:
    ledger = Ledger(path, goal, total)
    ledger.refresh()
    return ledger


def nobody(agent: int) -> bool:
    return False


def take(ledger: Ledger, agent: int, lost: frozenset[int] = frozenset()) -> int | None:
    """Claim the next trial for an agent, as agents do."""
    with ledger.held() as progress:
        number = progress.next_trial(agent, lost.__contains__)
        if number is not None:
            ledger.claim(number, agent, f"n{agent}", f"7_{agent}")
        return number


def test_each_agent_gets_the_next_trial_until_none_is_left(path: Path) -> None:
    one, other = ledger_of(path, 3), ledger_of(path, 3)
    assert [take(one, 0), take(other, 1)] == [0, 1]
    one.end(0, 0, "completed")
    assert take(one, 0) == 2
    other.end(1, 0, "failed", "exit code 1")
    assert take(other, 1) is None
    assert not other.progress.all_ended
    one.end(2, 0, "completed")
    assert other.refresh().all_ended
    assert other.progress.summary() == "3 trials: 2 completed, 1 failed"


def test_what_is_handed_back_comes_before_what_nobody_has_begun(path: Path) -> None:
    ledger = ledger_of(path)
    take(ledger, 0)
    take(ledger, 1)
    ledger.hand_back(0, 0, "pre-empted")
    assert ledger.progress.trials[0].state == "waiting"
    ledger.end(1, 0, "completed")
    assert take(ledger, 1) == 0
    trial = ledger.progress.trials[0]
    assert (trial.attempt, trial.agent, trial.losses) == (1, 1, 0)


def test_an_agent_that_was_started_again_goes_on_with_its_own_trial(path: Path) -> None:
    ledger = ledger_of(path)
    take(ledger, 0)
    take(ledger, 1)
    assert take(ledger_of(path), 1) == 1
    assert ledger.refresh().trials[1].attempt == 1
    assert ledger.progress.trials[1].losses == 1


def test_a_dead_agents_trial_is_taken_over_and_what_it_says_later_does_not_count(
    path: Path,
) -> None:
    ledger = ledger_of(path)
    take(ledger, 0)
    take(ledger, 1)
    ledger.end(1, 0, "completed")
    assert take(ledger, 1, lost=frozenset({0})) == 0
    ledger.log(0, 0, [(0, 9.0)])
    ledger.end(0, 0, "completed")
    ledger.hand_back(0, 0, "late")
    assert (ledger.progress.trials[0].state, ledger.progress.trials[0].best) == ("running", None)
    ledger.end(0, 1, "failed", "for good")
    ledger.end(0, 1, "completed")
    assert ledger.progress.trials[0].state == "failed"


def test_a_live_agents_trial_is_nobody_elses(path: Path) -> None:
    ledger = ledger_of(path, 1)
    take(ledger, 0)
    assert take(ledger, 1) is None


def test_steps_after_a_checkpoint_are_not_counted_twice(path: Path) -> None:
    ledger = ledger_of(path)
    take(ledger, 0)
    ledger.log(0, 0, [(0, 0.1), (1, 0.5), (2, 0.3)])
    ledger.hand_back(0, 0, "pre-empted")
    take(ledger, 0)
    ledger.log(0, 1, [(1, 0.9), (2, 0.9), (3, 0.4)])
    trial = ledger.progress.trials[0]
    assert (trial.count, trial.best, trial.last) == (4, 0.5, 0.4)
    assert ledger.progress.histories.length(0) == 4


@pytest.mark.parametrize(("goal", "best"), [(MAXIMIZE, 3.0), (MINIMIZE, 1.0)])
def test_the_best_of_a_trial_is_that_of_all_finite_values(
    path: Path, goal: PrimaryMetricGoal, best: float
) -> None:
    ledger = ledger_of(path, goal=goal)
    take(ledger, 0)
    ledger.log(0, 0, [(None, 1.0), (None, math.inf), (None, 3.0), (None, math.nan)])
    again = ledger_of(path, goal=goal).progress.trials[0]
    assert again.best == best
    assert again.last is not None and math.isnan(again.last)


def test_the_best_trial_counts_all_or_those_that_are_asked_for(path: Path) -> None:
    ledger = ledger_of(path)
    for number, state in enumerate(("completed", "stopped", "failed", "canceled")):
        take(ledger, 0)
        ledger.log(number, 0, [(0, float(number))])
        ledger.end(number, 0, state)
    best = ledger.progress.best

    def number_of(**which: bool) -> int:
        found = best(**which)
        assert found is not None
        return found.number

    assert number_of() == 3
    assert number_of(include_canceled=False) == 2
    assert number_of(include_canceled=False, include_failed=False) == 0
    assert [trial.number for trial in ledger.progress.ranked()] == [3, 2, 1, 0]


def test_of_equal_trials_the_first_is_the_best(path: Path) -> None:
    ledger = ledger_of(path)
    for number in (0, 1):
        take(ledger, 0)
        ledger.log(number, 0, [(0, 0.5)])
        ledger.end(number, 0, "completed")
    found = ledger.progress.best()
    assert found is not None and found.number == 0


def test_a_study_whose_first_trials_all_fail_before_they_log_is_hopeless(path: Path) -> None:
    ledger = ledger_of(path, 100)
    for number in range(FIRST_FAILURES):
        assert not ledger.progress.hopeless()
        take(ledger, 0)
        ledger.end(number, 0, "failed", "exit code 1: no such file")
    assert "trial 0: exit code 1: no such file" in ledger.progress.hopeless()


@pytest.mark.parametrize("good", ["logged", "completed"])
def test_one_that_has_logged_or_completed_gives_hope(path: Path, good: str) -> None:
    ledger = ledger_of(path, 100)
    for number in range(FIRST_FAILURES + 1):
        take(ledger, 0)
        if number == 0 and good == "logged":
            ledger.log(0, 0, [(0, 0.5)])
        state = "completed" if number == 0 and good == "completed" else "failed"
        ledger.end(number, 0, state)
    assert not ledger.progress.hopeless()


def test_a_new_submission_goes_on_where_the_last_one_was_stopped(path: Path) -> None:
    ledger = ledger_of(path)
    ledger.append("submitted", submission=0, agents=2)
    take(ledger, 0)
    ledger.append("stop", reason="by hand", by="me")
    ledger.hand_back(0, 0, "stopped")
    ledger.append("closed", state="Canceled", reason="by hand")
    assert ledger.progress.closed == ("Canceled", "by hand")
    ledger.append("submitted", submission=1, agents=1)
    assert (ledger.progress.closed, ledger.progress.stopped) == (None, "")
    assert take(ledger, 0) == 0


@pytest.mark.parametrize(
    "line",
    [
        "{",
        "[]",
        '{"event":"claimed"}',
        '{"event":"claimed","trial":"x","attempt":0}',
        '{"event":"logged","trial":0,"attempt":0,"values":7}',
        '{"event":"of a newer hpctf"}',
    ],
)
def test_damaged_and_unknown_records_are_passed_over(path: Path, line: str) -> None:
    ledger = ledger_of(path)
    take(ledger, 0)
    with path.open("a") as stream:
        stream.write(line + "\n")
    ledger.log(0, 0, [(0, 0.5)])
    ledger.end(0, 0, "completed")
    again = ledger_of(path).progress
    assert again.trials[0].state == "completed" and again.trials[0].best == 0.5


def _work(path: str, agent: int) -> None:
    ledger = ledger_of(Path(path), 60)
    while (number := take(ledger, agent)) is not None:
        attempt = ledger.progress.trials[number].attempt
        ledger.log(number, attempt, [(0, float(number))])
        ledger.end(number, attempt, "completed")


def test_agents_that_are_killed_lose_no_trial_and_run_none_twice(path: Path) -> None:
    """Each is killed at some moment, and then started again, as the supervisor does."""
    context = multiprocessing.get_context("spawn")
    workers = {n: context.Process(target=_work, args=(str(path), n)) for n in range(3)}
    for worker in workers.values():
        worker.start()
    watcher = ledger_of(path, 60)
    for kill in range(4):
        while len(watcher.refresh().trials) < 10 * (kill + 1):
            time.sleep(0.001)
        pid = workers[kill % 3].pid
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        workers[kill % 3].join()
        workers[kill % 3] = context.Process(target=_work, args=(str(path), kill % 3))
        workers[kill % 3].start()
    for worker in workers.values():
        worker.join()
        assert worker.exitcode == 0
    progress = ledger_of(path, 60).progress
    assert progress.all_ended
    assert {trial.state for trial in progress.trials.values()} == {"completed"}
    assert sorted(progress.trials) == list(range(60))
