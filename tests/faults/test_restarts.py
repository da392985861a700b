"""Interrupted trainings go on from their checkpoints: no epoch is lost, none is done twice.

Every kind of run is interrupted at once, so that the time Slurm takes is paid once a fault.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from tests.conftest import Person
from tests.faults.conftest import Clock
from tests.faults.inject import Faults
from tests.faults.resuming import (
    EPOCHS,
    KINDS,
    SCRIPT,
    begin,
    begin_all,
    check_all_resumed,
    epochs_of,
    starts,
)
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slurm


@pytest.mark.fault("pre-empted by a job of higher priority, every backend", "resumes")
def test_preemption(person: Person, faults: Faults, clock: Clock) -> None:
    runs = begin_all(person)
    clock.injected()
    person.cluster.run("srun", "-p", "high", "-N4", "--exclusive", "sleep", "2")
    check_all_resumed(person, runs)
    clock.right()


@pytest.mark.fault("scontrol requeue, every backend", "resumes")
def test_requeued_by_hand(person: Person, clock: Clock) -> None:
    runs = begin_all(person)
    clock.injected()
    records = [person.folder(run) / "run.json" for run in runs.values()]
    jobs = [str(json.loads(path.read_text())["job_id"]) for path in records]
    person.cluster.run("scontrol", "requeue", ",".join(jobs))
    listed = json.loads(person.hpctf("runs", "--json").stdout)
    states = {row["state"] for row in listed if row["id"] in runs.values()}
    assert states and not states & {"Completed", "Failed", "Canceled"}
    check_all_resumed(person, runs)
    clock.right()


@pytest.fixture
def two_nodes(faults: Faults, person: Person) -> Iterator[Person]:
    """A person whose jobs begin on n1 and n2, and may go on elsewhere."""
    person.cluster.run("scontrol", "update", "nodename=n3,n4", "state=drain", "reason=test")
    yield person
    person.cluster.run("scontrol", "update", "nodename=n3,n4", "state=resume", check=False)


@pytest.mark.fault("a node dies, every backend", "resumes on other nodes")
def test_node_failure(two_nodes: Person, faults: Faults, clock: Clock) -> None:
    person = two_nodes
    runs = begin_all(person)
    person.cluster.run("scontrol", "update", "nodename=n3,n4", "state=resume")
    clock.injected()
    with faults.cut("n1"):
        check_all_resumed(person, runs)
        clock.right()


@pytest.mark.fault("pre-empted, restarts forbidden", "Failed, and says why")
def test_no_restart_when_forbidden(person: Person, faults: Faults, clock: Clock) -> None:
    run = begin(person, restarts=0)
    wait_until(lambda: bool(epochs_of(person, run)))
    clock.injected()
    person.cluster.run("srun", "-p", "high", "-N4", "--exclusive", "true")
    done = person.hpctf("wait", run, check=False)
    clock.right()
    assert done.returncode == 1
    assert "pre-empted" in person.status(run)["reason"]
    assert "--max-restarts" in person.hpctf("why", run).stdout
    assert starts(person, run) == 1


@pytest.mark.fault("pre-empted with a grace period instead of a requeue", "requeues itself")
def test_preemption_that_cancels(person: Person, faults: Faults, clock: Clock) -> None:
    runs = {}
    with faults.settings():  # a slurmctld that forgets the partition's changes afterwards
        change = ["PreemptMode=CANCEL", "GraceTime=20"]
        person.cluster.run("scontrol", "update", "PartitionName=normal", *change)
        runs["collective"] = begin(person, *KINDS["collective"])
        wait_until(lambda: bool(epochs_of(person, runs["collective"])))
        clock.injected()
        person.cluster.run("srun", "-p", "high", "-N4", "--exclusive", "sleep", "2")
        check_all_resumed(person, runs)
        clock.right()


@pytest.mark.parametrize("how", ["hpctf", "scancel"])
@pytest.mark.fault("cancelled although it may restart", "Canceled, and stays so")
def test_a_cancelled_run_does_not_come_back(person: Person, clock: Clock, how: str) -> None:
    run = begin(person, *KINDS["collective"])
    wait_until(lambda: bool(epochs_of(person, run)))
    clock.injected()
    if how == "hpctf":
        person.hpctf("cancel", run)
    else:
        person.cluster.run("scancel", str(person.status(run)["job_id"]))
    done = person.hpctf("wait", run, check=False)
    clock.right()
    assert done.returncode == 1
    assert person.status(run)["state"] == "Canceled"
    assert starts(person, run) == 1
    wait_until(lambda: person.jobs() == [])


def test_a_script_may_choose_its_signal(person: Person) -> None:
    script = person.write(
        "proj/usr1.py",
        "import os, signal, sys, time\n"
        "signal.signal(signal.SIGUSR1, lambda *_: sys.exit('saved'))\n"
        "print('ready', flush=True)\n"
        "time.sleep(600 if os.environ['HPCTF_RESTART_COUNT'] == '0' else 0)\n",
    )
    words = ["--max-restarts", "1", "--warn-with", "USR1", "--sbatch", "mem=200"]
    run = person.hpctf("submit", *words, script).stdout.strip()
    wait_until(lambda: "ready" in person.hpctf("logs", run, "--role", "worker").stdout)
    job = person.status(run)["job_id"]
    person.cluster.run("scancel", "--signal=USR2", f"{job}.0")  # what Slurm's --signal sends
    person.hpctf("wait", run)
    assert "saved" in person.hpctf("logs", run, "--role", "worker").stdout
    assert starts(person, run) == 2


def test_resume_from_begins_with_a_copy_of_the_checkpoints(person: Person) -> None:
    script = person.write("proj/train.py", SCRIPT)
    first = begin(person, restarts=None)
    wait_until(lambda: bool(epochs_of(person, first)))
    refused = person.hpctf("submit", "--resume-from", first, script, check=False)
    assert refused.returncode == 2 and "may be writing its checkpoints" in refused.stderr
    person.hpctf("cancel", first)
    person.hpctf("wait", first, check=False)
    before = json.loads((person.folder(first) / "checkpoints/worker-0.json").read_text())
    second = begin(person, "--resume-from", first, restarts=None)
    person.hpctf("wait", second)
    assert epochs_of(person, second)["worker-0"] == list(range(before, EPOCHS))
    assert f"start 0 at epoch {before}" in person.hpctf("logs", second, "--role", "worker").stdout
    after = json.loads((person.folder(first) / "checkpoints/worker-0.json").read_text())
    assert after == before, "the old run's checkpoints stay as they were"


def test_resuming_from_a_run_without_checkpoints_is_refused(person: Person) -> None:
    script = person.write("proj/ok.py", "print(1)\n")
    first = person.hpctf("submit", "--wait", script).stdout.strip()
    refused = person.hpctf("submit", "--resume-from", first, script, check=False)
    assert refused.returncode == 2
    assert f"Run {first} has no checkpoints" in refused.stderr
    unknown = person.hpctf("submit", "--resume-from", "nobody", script, check=False)
    assert unknown.returncode == 2 and "There is no run 'nobody'" in unknown.stderr
    assert len(list(person.home.glob("runs/*/*"))) == 1


def test_a_run_that_was_requeued_is_queued_until_it_starts_again(person: Person) -> None:
    run = begin(person)
    wait_until(lambda: bool(epochs_of(person, run)))
    person.cluster.run("scontrol", "requeuehold", str(person.status(run)["job_id"]))
    wait_until(lambda: person.status(run)["state"] == "Queued")
    time.sleep(1)
    held = person.status(run)
    assert (held["state"], held["exit_code"]) == ("Queued", None)
    assert "scontrol release" in person.hpctf("why", run).stdout
    person.hpctf("cancel", run)
    assert person.status(run)["state"] == "Canceled"
