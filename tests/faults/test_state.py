"""The truth about a run's state, whatever Slurm says or cannot say."""

from __future__ import annotations

import pytest

from ..conftest import Person
from .conftest import Clock
from .inject import Faults

pytestmark = pytest.mark.slurm


@pytest.mark.fault("slurmdbd is down", "needs no accounting")
def test_slurmdbd_down(person: Person, faults: Faults, clock: Clock) -> None:
    script = person.write("proj/ok.py", "print(1)\n")
    with faults.stopped("slurmdbd"):
        clock.injected()
        person.hpctf("submit", "--wait", script)
        clock.right()
    assert person.status()["state"] == "Completed"
