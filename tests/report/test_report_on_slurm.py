"""`hpctf report` of what only Slurm does: requeues, several nodes, and a batch script."""

from __future__ import annotations

import json

from tests.conftest import Person
from tests.support.waiting import wait_until

GIVES_WAY_ONCE = """
import os, signal, sys, time
from hpctf import Run

run = Run.get_context()
first = os.environ["HPCTF_RESTART_COUNT"] == "0"
for step in range(3) if first else range(3, 6):
    run.log("loss", 1 / (step + 1), step=step)
if not first:
    sys.exit(0)
signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
time.sleep(600)
"""


def test_a_requeue_is_in_the_timeline_and_the_curve_goes_on(person: Person) -> None:
    script = person.write("proj/gives_way.py", GIVES_WAY_ONCE)
    words = ["--backend", "collective", "--nodes", "2", "--max-restarts", "1", "--grace", "5"]
    run = person.hpctf("submit", *words, script).stdout.strip()

    def all_log() -> bool:
        return all(role["state"] == "Running" for role in person.status(run)["roles"]) and (
            "loss" in person.hpctf("report", run, "--json").stdout
        )

    wait_until(all_log)
    person.cluster.run("scancel", "--signal=USR2", str(person.status(run)["job_id"]))
    person.hpctf("wait", run)
    (told,) = json.loads(person.hpctf("report", run, "--json").stdout)
    rows = told["timeline"]["rows"]
    assert [[bar["end"] for bar in row["bars"]] for row in rows] == [["asked", "completed"]] * 2
    assert len(told["timeline"]["requeues"]) == 1
    (loss,) = [panel for panel in told["curves"] if panel["name"] == "loss"]
    assert [line["label"] for line in loss["lines"]] == ["worker-0", "worker-1"]
    assert loss["lines"][0]["x"] == [0, 1, 2, 3, 4, 5]
    page = (person.home / person.hpctf("report", run).stdout.strip()).read_text()
    for words_shown in ("Requeued on", "asked to end (warning)", "#SBATCH --requeue"):
        assert words_shown in page
