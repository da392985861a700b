"""The time limit: warned, requeued, resumed; or told as what it is.

All runs of this file are submitted at once: Slurm looks at time limits twice a minute.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.cluster.fixture import TEST_USER, Cluster
from tests.conftest import Person, make_person
from tests.faults.conftest import Clock
from tests.faults.resuming import begin_all, check_all_resumed, record_of, starts

pytestmark = pytest.mark.slurm

SLEEP = "import time\nprint('up', flush=True)\ntime.sleep(600)\n"
STUBBORN = """
import os, signal, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
print('start', os.environ['HPCTF_RESTART_COUNT'], flush=True)
time.sleep(600 if os.environ['HPCTF_RESTART_COUNT'] == '0' else 0)
"""
MINUTE = ["--time", "1", "--sbatch", "mem=200"]


class Limited:
    """Runs with a time limit of one minute."""

    def __init__(self, person: Person) -> None:
        self.person = person
        sleep = person.write("proj/sleep.py", SLEEP)
        stubborn = person.write("stubborn/stubborn.py", STUBBORN)
        self.plain = self._submit(sleep)
        self.counted = self._submit("--max-restarts", "1", sleep)
        self.stubborn = self._submit("--max-restarts", "1", "--grace", "5", stubborn)
        self.kinds = begin_all(person, minutes=1)

    def _submit(self, *words: str | Path) -> str:
        return self.person.hpctf("submit", *MINUTE, *words).stdout.strip()


@pytest.fixture(scope="module")
def limited(cluster: Cluster, installed: Path) -> Iterator[Limited]:
    """The runs."""
    person = make_person(cluster, installed, "limited", TEST_USER)
    yield Limited(person)
    person.leave()


@pytest.mark.fault("time limit, every backend", "warns, requeues itself, resumes")
def test_every_kind_goes_on_where_it_was(limited: Limited, clock: Clock) -> None:
    clock.injected()
    check_all_resumed(limited.person, limited.kinds)
    clock.right()
    for run in limited.kinds.values():
        records = record_of(limited.person, run)
        causes = [one["cause"] for one in records if one["event"] == "requeued"]
        assert causes and all("Slurm's warning" in cause for cause in causes)


@pytest.mark.fault("time limit, restarts used up", "Failed, and says so")
def test_restarts_are_counted(limited: Limited, clock: Clock) -> None:
    person, run = limited.person, limited.counted
    clock.injected()
    done = person.hpctf("wait", run, check=False)
    clock.right()
    assert done.returncode == 1
    assert "its 1 restarts are used up" in person.status(run)["reason"]
    assert f"--resume-from {run}" in person.hpctf("why", run).stdout
    assert starts(person, run) == 2


@pytest.mark.fault("a script ignores its warning", "is ended after its grace period")
def test_a_stubborn_script_is_ended_after_its_grace(limited: Limited, clock: Clock) -> None:
    person, run = limited.person, limited.stubborn
    clock.injected()
    person.hpctf("wait", run)
    clock.right()
    assert "start 1" in person.hpctf("logs", run, "--role", "worker").stdout


@pytest.mark.fault("time limit, without restarts", "Failed; `why` says which limit it was")
def test_without_restarts_the_limit_is_told(limited: Limited, clock: Clock) -> None:
    person, run = limited.person, limited.plain
    clock.injected()
    done = person.hpctf("wait", run, check=False)
    clock.right()
    assert done.returncode == 1
    assert "it reached its time limit" in person.status(run)["reason"]
    why = person.hpctf("why", run).stdout
    assert "Its time limit was 0:01:00." in why
    assert "--time" in why and "--max-restarts" in why
