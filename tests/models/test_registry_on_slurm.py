"""Several hosts register versions of one model at once, and one of them is killed as it does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import Person
from tests.support.waiting import HANGS_S

pytestmark = pytest.mark.slurm

REGISTERS = """
import os
from hpctf import Model
from hpctf.models import registry

rank = int(os.environ["SLURM_PROCID"])
for turn in range(6):
    if rank == 3 and turn == 3:
        registry.take_number = lambda *words: os.kill(os.getpid(), 9)  # all but the rename is done
    model = Model.register("weights.bin", "digits", {"rank": rank, "turn": turn})
    print(model.version, rank, turn, flush=True)
"""


def test_eight_writers_on_four_hosts_leave_no_gap(person: Person) -> None:
    person.write("weights.bin", "weights" * 1000)
    script = person.write("register.py", REGISTERS)
    done = person.cluster.run(
        *("srun", "--nodes=4", "--ntasks=8", "--ntasks-per-node=2", "--kill-on-bad-exit=0"),
        *(person.bin / "python", script),
        user=person.user,
        cwd=person.home,
        env=person.env,
        check=False,
        timeout=HANGS_S,
    )
    said = [tuple(map(int, line.split())) for line in done.stdout.splitlines()]
    assert len(said) == 8 * 6 - 3, done.stderr

    listed = json.loads(person.hpctf("models", "list", "digits", "--json").stdout)
    assert [one["version"] for one in listed] == list(range(len(said), 0, -1))
    tags = {(one["version"], one["tags"]["rank"], one["tags"]["turn"]) for one in listed}
    assert tags == set(said)
    assert len({one["host"] for one in listed}) == 4
    assert len(list(Path(person.home, "runs/.models/digits").glob(".tmp-*"))) == 1
    shown = json.loads(person.hpctf("models", "show", "digits", "--json").stdout)
    assert shown["verified"] and shown["version"] == len(said)
