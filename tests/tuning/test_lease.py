"""Who drives a study: one process at a time."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from hpctf.tuning.agent.driver import LEASE_LOOK_S
from hpctf.tuning.agent.lease import LOST_S, Lease, LeaseLost
from hpctf.tuning.study import Study
from tests.support.projects import project
from tests.tuning.test_study import Clock, study_in


@pytest.fixture
def folder(tmp_path: Path) -> Study:
    made = study_in(tmp_path / "e/s_1_ab", project(tmp_path / "proj"))
    made.folder.state.mkdir()
    return made


def again(study: Study) -> Study:
    """Return the study as another process sees it."""
    return Study(study.folder)


def test_a_driver_that_lives_keeps_the_study(folder: Study) -> None:
    clock = Clock()
    first, second = Lease(folder), Lease(again(folder), clock)
    assert first.take()
    for beat in range(5):
        assert not second.take()
        clock.now += LOST_S / 3
        os.utime(first.stamp, (beat, beat))
    first.check(folder.ledger.refresh())


def test_a_silent_driver_loses_the_study_and_can_write_no_more(folder: Study) -> None:
    clock, other = Clock(), again(folder)
    first, second = Lease(folder), Lease(other, clock)
    assert first.take()
    folder.ledger.claim(0, 0, "", "")
    for _ in range(4):
        assert not second.take()
        clock.now += LOST_S / 3.9
    assert second.take()
    with pytest.raises(LeaseLost):
        folder.ledger.claim(1, 0, "", "")
    with pytest.raises(LeaseLost):
        folder.ledger.end(0, 0, "failed")
    other.ledger.claim(1, 0, "", "")
    assert {n: trial.state for n, trial in other.ledger.refresh().trials.items()} == {
        0: "running",
        1: "running",
    }


def test_a_silent_driver_is_replaced_within_ten_seconds() -> None:
    """By who waits in its job already: the first look sees the last stamp, the last is late."""
    assert LEASE_LOOK_S + LOST_S + LEASE_LOOK_S <= 10


def test_who_could_not_look_waits_anew(folder: Study) -> None:
    clock = Clock()
    first, second = Lease(folder), Lease(again(folder), clock)
    assert first.take() and not second.take()
    clock.now += 10 * LOST_S
    assert not second.take()


def test_a_driver_of_this_machine_that_has_ended_is_replaced_at_once(folder: Study) -> None:
    child = os.fork()
    if not child:
        os._exit(0 if Lease(again(folder)).take() else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert Lease(folder).take()


def test_one_that_has_ended_well_leaves_the_study_to_the_next(folder: Study) -> None:
    first = Lease(folder)
    assert first.take()
    first.release()
    assert Lease(again(folder), Clock()).take()
