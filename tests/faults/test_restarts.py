"""Interrupted trainings go on from their checkpoints: no epoch is lost, none is done twice.

Every kind of run is interrupted at once, so that the time Slurm takes is paid once a fault.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ..conftest import Person
from .conftest import Clock
from .inject import Faults, wait_until

pytestmark = pytest.mark.slurm

EPOCHS = 30

TRAIN = f"""
import json, os, signal, sys, time


def train():
    asked = []
    signal.signal(signal.SIGTERM, lambda *_: asked.append(True))
    me = f"{{os.environ['HPCTF_ROLE']}}-{{os.environ['HPCTF_INDEX']}}"
    if me.startswith("ps"):
        time.sleep(600)
    checkpoint = os.path.join(os.environ["HPCTF_CHECKPOINT_DIR"], me + ".json")
    done = json.load(open(checkpoint)) if os.path.exists(checkpoint) else 0
    print("start", os.environ["HPCTF_RESTART_COUNT"], "at epoch", done, flush=True)
    for epoch in range(done, {EPOCHS}):
        time.sleep(0.5)
        with open(os.path.join(os.environ["HPCTF_OUTPUTS_DIR"], me + ".epochs"), "a") as log:
            log.write(f"{{epoch}}\\n")
        with open(checkpoint + ".new", "w") as new:
            json.dump(epoch + 1, new)
        os.replace(checkpoint + ".new", checkpoint)
        if asked:
            print("asked to end: leaving after epoch", epoch, flush=True)
            sys.exit(0)
    return {EPOCHS}
"""
SCRIPT = TRAIN + "\n\ntrain()\n"
CALL = """
import sys
sys.path.insert(0, ".")
from hpctf import Experiment, TensorFlow
import training
options = dict(node_count=2, distributed_backend="collective", max_restarts=9)
run = Experiment("function").submit(TensorFlow(function=training.train, **options))
print(run.id)
"""
SMALL = ["--sbatch", "mem=200", "--max-restarts", "9", "--grace", "10"]
KINDS = {
    "single": [],
    "mpi": ["--backend", "mpi", "--nodes", "2"],
    "mpirun": ["--backend", "mpi", "--nodes", "2", "--site", "slurm-mpirun"],
    "collective": ["--backend", "collective", "--nodes", "2"],
    "ps-hetjob": ["--backend", "ps", "--workers", "1", "--ps-mode", "script"],
    "ps-shared": [
        *["--backend", "ps", "--workers", "1", "--ps-mode", "script"],
        *["--ps-placement", "shared"],
    ],
}


def begin_all(person: Person, *words: str) -> dict[str, str]:
    """Submit a training of every kind and wait until each runs; return the runs' ids by kind."""
    script = person.write("proj/train.py", SCRIPT)
    runs = {
        kind: person.hpctf("submit", *SMALL, *words, *options, script).stdout.strip()
        for kind, options in KINDS.items()
    }
    person.write("training.py", TRAIN)
    call = [person.bin / "python", person.write("call.py", CALL)]
    made = person.cluster.run(*call, user=person.user, env=person.env, cwd=person.home)
    runs["function"] = made.stdout.strip()
    wait_until(lambda: all(epochs(person, run) for run in runs.values()), 120)
    return runs


def folder_of(person: Person, run: str) -> Path:
    return next(person.home.glob(f"runs/*/{run}"))


def epochs(person: Person, run: str) -> dict[str, list[int]]:
    """Return the epochs that each rank of a run has done, by rank."""
    files = sorted(folder_of(person, run).glob("outputs/*.epochs"))
    return {path.stem: [int(line) for line in path.read_text().split()] for path in files}


def record(person: Person, run: str) -> list[dict[str, Any]]:
    """Return the job's own record."""
    lines = (folder_of(person, run) / "state/job.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def starts(person: Person, run: str) -> int:
    """Return how often the run's job has started."""
    return sum(one["event"] == "started" for one in record(person, run))


def check_all_resumed(person: Person, runs: dict[str, str]) -> None:
    """Wait for the runs: each has been started again, and each rank has done every epoch once."""
    for kind, run in runs.items():
        done = person.hpctf("wait", run, check=False, timeout=240)
        assert done.returncode == 0, f"{kind}: {done.stderr}"
        assert starts(person, run) > 1, f"{kind} was never interrupted"
        for rank, numbers in epochs(person, run).items():
            counted = Counter(numbers)
            assert counted == Counter(range(EPOCHS)), f"{kind}, {rank}: {counted}"


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
    jobs = [str(person.status(run)["job_id"]) for run in runs.values()]
    person.cluster.run("scontrol", "requeue", ",".join(jobs))
    states = {person.status(run)["state"] for run in runs.values()}
    assert not states & {"Completed", "Failed", "Canceled"}
    check_all_resumed(person, runs)
    clock.right()


@pytest.mark.fault("time limit, every backend", "warns, requeues itself, resumes")
def test_time_limit(person: Person, clock: Clock) -> None:
    runs = begin_all(person, "--time", "1")
    clock.injected()
    functions = runs.pop("function")  # without a time limit: it is of the other tests
    person.hpctf("cancel", functions)
    check_all_resumed(person, runs)
    clock.right()
    for run in runs.values():
        causes = [one["cause"] for one in record(person, run) if one["event"] == "requeued"]
        assert causes and all("Slurm's warning" in cause for cause in causes)


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


@pytest.mark.fault("time limit, restarts used up", "Failed, and says so")
def test_restarts_are_counted(person: Person, clock: Clock) -> None:
    script = person.write("proj/ends.py", "import time\nprint('up', flush=True)\ntime.sleep(600)\n")
    words = ["--time", "1", "--max-restarts", "1", "--sbatch", "mem=200"]
    run = person.hpctf("submit", *words, script).stdout.strip()
    clock.injected()
    done = person.hpctf("wait", run, check=False, timeout=240)
    clock.right()
    assert done.returncode == 1
    assert "its 1 restarts are used up" in person.status(run)["reason"]
    assert f"--resume-from {run}" in person.hpctf("why", run).stdout
    assert starts(person, run) == 2
    assert person.jobs() == []


@pytest.mark.fault("pre-empted, restarts forbidden", "Failed, and says why")
def test_no_restart_when_forbidden(person: Person, faults: Faults, clock: Clock) -> None:
    script = person.write("proj/train.py", SCRIPT)
    words = ["--max-restarts", "0", "--sbatch", "mem=200"]
    run = person.hpctf("submit", *words, script).stdout.strip()
    wait_until(lambda: bool(epochs(person, run)))
    clock.injected()
    person.cluster.run("srun", "-p", "high", "-N4", "--exclusive", "true")
    done = person.hpctf("wait", run, check=False, timeout=120)
    clock.right()
    assert done.returncode == 1
    assert "pre-empted" in person.status(run)["reason"]
    assert "--max-restarts" in person.hpctf("why", run).stdout
    assert starts(person, run) == 1


@pytest.mark.fault("pre-empted with a grace instead of a requeue", "requeues itself")
def test_preemption_that_cancels(person: Person, faults: Faults, clock: Clock) -> None:
    runs = {}
    with faults.settings():  # a slurmctld that forgets the partition's changes afterwards
        change = ["PreemptMode=CANCEL", "GraceTime=20"]
        person.cluster.run("scontrol", "update", "PartitionName=normal", *change)
        script = person.write("proj/train.py", SCRIPT)
        words = ["--backend", "collective", "--nodes", "2"]
        runs["collective"] = person.hpctf("submit", *SMALL, *words, script).stdout.strip()
        wait_until(lambda: bool(epochs(person, runs["collective"])))
        clock.injected()
        person.cluster.run("srun", "-p", "high", "-N4", "--exclusive", "sleep", "2")
        check_all_resumed(person, runs)
        clock.right()


@pytest.mark.parametrize("how", ["hpctf", "scancel"])
@pytest.mark.fault("cancelled while it may restart", "Canceled, and stays so")
def test_a_cancelled_run_does_not_come_back(person: Person, clock: Clock, how: str) -> None:
    script = person.write("proj/train.py", SCRIPT)
    run = person.hpctf("submit", *SMALL, *KINDS["collective"], script).stdout.strip()
    wait_until(lambda: bool(epochs(person, run)))
    clock.injected()
    if how == "hpctf":
        person.hpctf("cancel", run)
    else:
        person.cluster.run("scancel", str(person.status(run)["job_id"]))
    done = person.hpctf("wait", run, check=False, timeout=60)
    clock.right()
    assert done.returncode == 1
    assert person.status(run)["state"] == "Canceled"
    assert starts(person, run) == 1
    assert person.jobs() == []


@pytest.mark.fault("a script that ignores its warning", "is ended when its grace is over")
def test_a_stubborn_script_is_ended_after_its_grace(person: Person, clock: Clock) -> None:
    script = person.write(
        "proj/stubborn.py",
        "import os, signal, time\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "print('start', os.environ['HPCTF_RESTART_COUNT'], flush=True)\n"
        "time.sleep(600 if os.environ['HPCTF_RESTART_COUNT'] == '0' else 0)\n",
    )
    words = ["--time", "1", "--max-restarts", "1", "--grace", "5", "--sbatch", "mem=200"]
    run = person.hpctf("submit", *words, script).stdout.strip()
    clock.injected()
    person.hpctf("wait", run, timeout=180)
    clock.right()
    assert person.status(run)["state"] == "Completed"
    assert "start 1" in person.hpctf("logs", run, "--role", "worker").stdout


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
    person.hpctf("wait", run, timeout=120)
    assert "saved" in person.hpctf("logs", run, "--role", "worker").stdout
    assert starts(person, run) == 2


def test_resume_from_begins_with_a_copy_of_the_checkpoints(person: Person) -> None:
    script = person.write("proj/train.py", SCRIPT)
    first = person.hpctf("submit", "--sbatch", "mem=200", script).stdout.strip()
    wait_until(lambda: bool(epochs(person, first)))
    refused = person.hpctf("submit", "--resume-from", first, script, check=False)
    assert refused.returncode == 2 and "may be writing its checkpoints" in refused.stderr
    person.hpctf("cancel", first)
    person.hpctf("wait", first, check=False, timeout=60)
    before = json.loads((folder_of(person, first) / "checkpoints/worker-0.json").read_text())
    second = person.hpctf("submit", "--resume-from", first, "--wait", script).stdout.strip()
    assert epochs(person, second)["worker-0"] == list(range(before, EPOCHS))
    assert f"start 0 at epoch {before}" in person.hpctf("logs", second, "--role", "worker").stdout
    after = json.loads((folder_of(person, first) / "checkpoints/worker-0.json").read_text())
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
    script = person.write("proj/train.py", SCRIPT)
    run = person.hpctf("submit", *SMALL, script).stdout.strip()
    wait_until(lambda: bool(epochs(person, run)))
    person.cluster.run("scontrol", "requeuehold", str(person.status(run)["job_id"]))
    wait_until(lambda: person.status(run)["state"] == "Queued")
    time.sleep(1)
    held = person.status(run)
    assert (held["state"], held["exit_code"]) == ("Queued", None)
    assert "scontrol release" in person.hpctf("why", run).stdout
    person.hpctf("cancel", run)
    assert person.status(run)["state"] == "Canceled"
