"""What ranks have logged outlives their being killed, all at once, in the middle of it."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from hpctf import Run
from tests.conftest import Person
from tests.faults.conftest import Clock
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slurm

LOGS_FOR_EVER = """
import itertools, os, time
from hpctf import Run

run = Run.get_context()
told = os.open(f"outputs/told-{run.index}", os.O_WRONLY | os.O_CREAT, 0o600)
for n in itertools.count():
    run.log("loss", n / 3, n)
    if n % 10 == 0:
        run.log_row("row", rank=run.rank, n=n)
    os.pwrite(told, b"%10d" % n, 0)
    if n > 20_000:
        time.sleep(0.01)
"""


@pytest.mark.fault("64 ranks log at once and are killed", "no record is lost")
def test_64_ranks_that_are_killed_have_all_records(person: Person, clock: Clock) -> None:
    script = person.write("proj/log.py", LOGS_FOR_EVER)
    words = ["--backend", "mpi", "--nodes", "4", "--procs-per-node", "16"]
    run = person.hpctf("submit", *words, "--sbatch", "mem=4000", script).stdout.strip()
    folder = next(person.home.glob(f"runs/*/{run}"))
    wait_until(lambda: len(told(folder)) == 64 and min(told(folder).values()) > 0)
    clock.injected()
    for state in folder.glob("state/worker-*.jsonl"):
        pid = int(state.read_text().split('"pid":')[1].split(",")[0].rstrip("}\n"))
        with suppress(ProcessLookupError):  # Slurm kills the others once one is
            os.kill(pid, signal.SIGKILL)
    done = person.hpctf("wait", run, check=False)
    clock.right()
    assert done.returncode == 1 and "signal 9 (SIGKILL)" in done.stderr
    killed = Run(folder)
    for index, last in told(folder).items():
        found = killed.series(rank=f"worker-{index}")
        assert len(found["loss"].steps) in (last + 1, last + 2), "the one it was just logging"
        assert found["loss"].steps == list(range(len(found["loss"].steps)))
        assert found["loss"].values == [n / 3 for n in found["loss"].steps]
        rows = [row["n"] for row in found["row"].values]
        assert rows == list(range(0, 10 * len(rows), 10)) and rows[-1] > last - 10
    assert len(list(folder.glob("metrics/worker-*.jsonl"))) == 64


def told(folder: Path) -> dict[int, int]:
    """Return what each rank has told to have logged, outside of its journal."""
    files = folder.glob("outputs/told-*")
    texts = {int(file.name.rpartition("-")[2]): file.read_text().strip() for file in files}
    return {index: int(text) for index, text in texts.items() if text}
