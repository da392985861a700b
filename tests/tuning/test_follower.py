"""What a trial logs is told once, in whatever start of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpctf.run_folder.layout import RunFolder
from hpctf.tuning.agent.follower import Follower, JobFollower


@pytest.fixture
def trial(tmp_path: Path) -> RunFolder:
    folder = RunFolder(tmp_path / "trial")
    folder.make([("worker", 0)])
    return folder


def log(trial: RunFolder, value: float, step: int | None, at: float, name: str = "acc") -> None:
    record = {"name": name, "value": value, "time": at}
    if step is not None:
        record["step"] = step
    with (trial.metrics / "worker-0.jsonl").open("a") as journal:
        journal.write(json.dumps(record) + "\n")


def test_each_value_is_told_once(trial: RunFolder) -> None:
    follower = Follower(trial, "acc", began=100.0)
    assert follower.new_values() == []
    log(trial, 0.5, 0, 101.0)
    log(trial, 9.0, 0, 101.0, name="loss")
    log(trial, 0.6, 1, 102.0)
    assert follower.new_values() == [(0, 0.5), (1, 0.6)]
    assert follower.new_values() == []
    log(trial, 0.7, None, 103.0)
    assert follower.new_values() == [(None, 0.7)]
    assert follower.names() == ["acc", "loss"]


def test_what_an_earlier_start_has_logged_is_not_new(trial: RunFolder) -> None:
    log(trial, 0.5, 0, 90.0)
    follower = Follower(trial, "acc", began=100.0)
    assert follower.new_values() == []
    log(trial, 0.6, 1, 101.0)
    assert follower.new_values() == [(1, 0.6)]


def test_what_a_dead_agent_has_not_entered_is_missed(trial: RunFolder) -> None:
    for step in range(4):
        log(trial, step / 10, step, 90.0 + step)
    follower = Follower(trial, "acc", began=100.0)
    assert follower.missed_values({0, 1}, 2) == [(2, 0.2), (3, 0.3)]
    assert follower.missed_values({0, 1, 2, 3}, 4) == []


def test_values_without_a_step_are_missed_by_their_number(trial: RunFolder) -> None:
    for number in range(3):
        log(trial, float(number), None, 90.0 + number)
    follower = Follower(trial, "acc", began=100.0)
    assert follower.missed_values(set(), 2) == [(None, 2.0)]
    assert Follower(trial, "other", began=100.0).missed_values(set(), 0) == []


def followed(trial: RunFolder, steps: set[int], count: int) -> JobFollower:
    return JobFollower(trial, "acc", "worker-0", steps, count)


def test_a_driver_that_takes_over_tells_what_the_one_before_had_not(trial: RunFolder) -> None:
    log(trial, 0.5, 0, 101.0)
    log(trial, 0.6, 1, 102.0)
    first = followed(trial, set(), 0)
    assert first.new_values() == [(0, 0.5), (1, 0.6)]
    log(trial, 0.7, 2, 103.0)
    second = followed(trial, {0, 1}, 2)
    assert second.new_values() == first.new_values() == [(2, 0.7)]
    assert second.new_values() == []


def test_steps_that_a_requeued_job_repeats_are_not_told_again(trial: RunFolder) -> None:
    follower = followed(trial, set(), 0)
    for step in range(3):
        log(trial, step / 10, step, 101.0 + step)
    assert len(follower.new_values()) == 3
    for step in range(1, 5):
        log(trial, 1.0 + step, step, 201.0 + step)
    assert follower.new_values() == [(3, 4.0), (4, 5.0)]


def test_values_without_a_step_are_told_by_their_number(trial: RunFolder) -> None:
    for number in range(3):
        log(trial, float(number), None, 101.0)
    assert followed(trial, set(), 2).new_values() == [(None, 2.0)]
