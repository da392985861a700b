"""The truth about a run's state, whatever Slurm says or cannot say."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Person
from tests.faults.conftest import Clock
from tests.faults.inject import Faults
from tests.support.waiting import HANGS_S, wait_until

pytestmark = pytest.mark.slurm

SLEEP = "import time\nprint('up', flush=True)\ntime.sleep(600)\n"
UNTIL_TOLD = """
import os, time
print("up", flush=True)
while not os.path.exists({go!r}):
    time.sleep(0.1)
print("told", flush=True)
"""
TWICE = """
import os, time
if os.environ["HPCTF_RESTART_COUNT"] == "0":
    time.sleep(600)
"""
MANY = 1000


def submit(person: Person, *words: str, text: str = SLEEP) -> str:
    """Submit a script and return the run's id."""
    return person.hpctf("submit", *words, person.write("proj/train.py", text)).stdout.strip()


def running(person: Person, *words: str, text: str = SLEEP) -> tuple[str, str]:
    """Submit a script, and return the run's and its job's id once it runs."""
    run = submit(person, *words, text=text)
    wait_until(lambda: person.status(run)["state"] == "Running")
    return run, str(person.status(run)["job_id"])


def told(person: Person, run: str) -> tuple[str, str]:
    """Return the state and the reason that hpctf tells."""
    status = person.status(run)
    return status["state"], status["reason"]


def wait_for(person: Person, run: str, state: str) -> None:
    """Look until a run is in a state, and see that it is called none that is final before."""

    def there() -> bool:
        now, reason = told(person, run)
        assert now == state or now not in ("Completed", "Failed", "Canceled"), (now, reason)
        return now == state

    wait_until(there)


def forgotten(person: Person, job: str) -> bool:
    """Whether slurmctld has purged a job from its memory."""
    asked = person.cluster.run("squeue", "--states=all", f"--jobs={job}", check=False)
    return "Invalid job id" in asked.stderr


@pytest.fixture
def pool() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as threads:
        yield threads


@pytest.mark.fault("slurmdbd is down", "works without accounting")
def test_slurmdbd_down(person: Person, faults: Faults, clock: Clock) -> None:
    script = person.write("proj/ok.py", "print(1)\n")
    with faults.stopped("slurmdbd"):
        clock.injected()
        person.hpctf("submit", "--wait", script)
        clock.right()
    assert person.status()["state"] == "Completed"


@pytest.mark.fault(
    "no accounting at all, and slurmctld has forgotten the job",
    "reads the end from the run folder: completed, or cancelled as slurmstepd reported",
)
def test_no_accounting_and_a_job_that_was_purged(
    person: Person, faults: Faults, clock: Clock
) -> None:
    disabled = {
        "AccountingStorageType": "accounting_storage/none",
        "AccountingStorageTRES": "node",
        "MinJobAge": "2",
    }
    with faults.settings(**disabled):
        first = submit(person, text="print(1)\n")
        second, job = running(person)
        person.cluster.run("scancel", job)
        wait_until(lambda: forgotten(person, job))
        assert "disabled" in person.cluster.run("sacct", check=False).stderr
        clock.injected()
        assert told(person, first) == ("Completed", "")
        assert told(person, second) == ("Canceled", "it was cancelled")
        clock.right()
    assert person.hpctf("wait", first).returncode == 0


@pytest.mark.parametrize("whose", ["root's", "the person's own"])
@pytest.mark.fault(
    "another job now has the job's id",
    "distinguishes them by user, submission time, name and script",
)
def test_a_job_id_used_again(person: Person, faults: Faults, clock: Clock, whose: str) -> None:
    run, job = running(person)
    person.cluster.run("scancel", job)
    wait_until(lambda: not person.jobs())
    accounted = ["sacct", "--noheader", "--parsable2", "--allocations", "--format=State", "--jobs"]
    wait_until(lambda: "CANCELLED" in person.cluster.run(*accounted, job).stdout)
    with faults.forgetful(job):
        command = ["sbatch", "--parsable", "--job-name=other", "--wrap=sleep 600"]
        user = None if whose == "root's" else person.user
        other = person.cluster.run(*command, "--output=/dev/null", user=user).stdout.strip()
        assert other == job
        assert person.hpctf("cancel", run, check=False).returncode == 0, "it has ended already"
        clock.injected()
        assert told(person, run) == ("Canceled", "it was cancelled by user root")
        clock.right()
        assert person.hpctf("wait", run, check=False).returncode == 1
        assert person.hpctf("runs", "--rm", run, "--yes").returncode == 0
        states = person.cluster.run("squeue", "--noheader", "--format=%T", f"--jobs={other}")
        assert states.stdout.strip() in ("RUNNING", "PENDING")
        person.cluster.run("scancel", other)


@pytest.mark.fault(
    "slurmctld is down while a run continues and ends",
    "`wait` says since when, keeps printing the log, and reads the end from the run folder",
)
def test_slurmctld_away(
    person: Person, faults: Faults, clock: Clock, pool: ThreadPoolExecutor
) -> None:
    go = person.home / "go"
    run, _ = running(person, text=UNTIL_TOLD.format(go=str(go)))
    waiting: Future[Any] = pool.submit(person.hpctf, "wait", "--follow", run)
    with faults.stopped("slurmctld"):
        clock.injected()
        state, reason = told(person, run)
        clock.right()
        assert state == "Running"
        assert "the scheduler could not be asked: " in reason
        assert "Unable to contact slurm controller" in reason
        go.touch()
        waited = waiting.result(timeout=HANGS_S)
    assert "the scheduler has not answered since " in waited.stderr
    assert "told" in waited.stderr
    assert f"Run {run} completed." in waited.stderr
    assert told(person, run) == ("Completed", ""), "what was told as final stays so"


@pytest.mark.fault("a node fails", "Failed, with the cause; Queued if Slurm restarts it")
def test_a_node_failure(person: Person, faults: Faults, clock: Clock) -> None:
    onto = ["--sbatch", "nodelist=n4"]
    lost, _ = running(person, *onto, "--max-restarts", "0")
    again, _ = running(person, *onto, "--max-restarts", "1")
    with faults.cut("n4"):
        clock.injected()
        wait_for(person, again, "Queued")
        wait_for(person, lost, "Failed")
        clock.right()
        assert "a node failed" in told(person, lost)[1]
        assert "It ran on n4." in person.hpctf("why", lost).stdout
        # For a moment sinfo(1) calls a node mixed that is down: its count of CPUs in use is older.
        wait_until(lambda: "n4 is down" in person.hpctf("why", lost).stdout)
    person.hpctf("cancel", again)


@pytest.mark.fault("a job is suspended, and resumed", "Running, with the reason")
def test_suspended(person: Person, clock: Clock) -> None:
    run, job = running(person)
    clock.injected()
    person.cluster.run("scontrol", "suspend", job)
    wait_until(lambda: told(person, run) == ("Running", "suspended by Slurm"))
    clock.right()
    assert f"scontrol resume {job}" in person.hpctf("why", run).stdout
    person.cluster.run("scontrol", "resume", job)
    wait_until(lambda: told(person, run) == ("Running", ""))
    person.hpctf("cancel", run)


@pytest.mark.fault("a job is requeued and held, then let go", "Queued with the reason; never final")
def test_requeued_and_held(person: Person, clock: Clock, pool: ThreadPoolExecutor) -> None:
    run, job = running(person, "--max-restarts", "1", text=TWICE)
    waiting: Future[Any] = pool.submit(person.hpctf, "wait", run)
    clock.injected()
    person.cluster.run("scontrol", "requeuehold", job)
    wait_for(person, run, "Queued")
    clock.right()
    assert told(person, run)[1] == "job requeued in held state"
    assert f"scontrol release {job}" in person.hpctf("why", run).stdout
    person.cluster.run("scontrol", "release", job)
    wait_for(person, run, "Completed")
    assert waiting.result(timeout=HANGS_S).returncode == 0


@pytest.mark.fault("somebody else cancels the job", "Canceled, and by whom")
def test_cancelled_by_somebody_else(person: Person, clock: Clock) -> None:
    run, job = running(person)
    clock.injected()
    person.cluster.run("scancel", job)
    waited = person.hpctf("wait", run, check=False)
    clock.right()
    assert waited.returncode == 1
    assert "it was cancelled by user root" in waited.stderr
    assert told(person, run) == ("Canceled", "it was cancelled by user root")


@pytest.mark.fault("the job vanished without a trace", "Failed, never Completed; `wait` ends")
def test_a_job_that_vanished(person: Person, clock: Clock) -> None:
    run, job = running(person)
    person.cluster.run("scancel", "--signal=KILL", job)
    person.cluster.run("scancel", job)
    wait_until(lambda: not person.jobs())
    folder = person.folder(run)
    record = json.loads((folder / "run.json").read_text())
    (folder / "run.json").write_text(json.dumps({**record, "job_id": "9999999"}))
    for path in [folder / "logs/job.log", *folder.glob("state/*.json*")]:
        path.write_text("")
    assert told(person, run)[0] == "Finalizing"
    long_ago = time.time() - 3600
    for path in [folder / "run.json", *folder.glob("state/*.jsonl")]:
        os.utime(path, (long_ago, long_ago))
    clock.injected()
    waited = person.hpctf("wait", run, check=False)
    clock.right()
    assert waited.returncode == 1
    assert told(person, run)[0] == "Failed"
    assert "the scheduler no longer knows its job" in told(person, run)[1]


@pytest.mark.fault(f"{MANY} runs are listed", "calls squeue once, and sacct at most once")
def test_one_question_for_many_runs(person: Person, clock: Clock) -> None:
    run = submit(person, "--sbatch", "begin=2099-01-01")
    source = person.folder(run)
    command = ["sbatch", "--parsable", "--begin=2099-01-01", "--job-name=many", "--wrap=true"]
    array = f"--array=0-{MANY - 2}"
    job = person.cluster.run(*command, array, user=person.user).stdout.strip()
    record = json.loads((source / "run.json").read_text())
    for number in range(MANY - 1):
        copy = source.with_name(f"many_{number}_{number:06x}")
        shutil.copytree(source, copy, symlinks=True)
        changed = {"id": copy.name, "job_id": f"{job}_{number}", "job_name": "many"}
        (copy / "run.json").write_text(json.dumps({**record, **changed}))
    subprocess.run(["chown", "-R", f"{person.user}:", source.parent], check=True)
    path, log = _counted(person)
    clock.injected()
    rows = json.loads(person.hpctf("runs", "--limit", "0", "--json", PATH=path).stdout)
    clock.right()
    person.cluster.run("scancel", job, record["job_id"])
    assert [(row["state"], row["reason"]) for row in rows] == [("Queued", "BeginTime")] * MANY
    assert log.read_text().split() == ["squeue"]
    person.hpctf("runs", "--limit", "0", "--json", PATH=path)
    assert log.read_text().split() == ["squeue", "squeue", "sacct"]


def _counted(person: Person) -> tuple[str, Path]:
    """Return a PATH on which each call of Slurm is noted, and where."""
    log = person.home / "commands.log"
    log.touch(mode=0o666)
    log.chmod(0o666)
    for name in ("squeue", "sacct", "scontrol", "sinfo"):
        text = f'#!/bin/sh\necho {name} >>{log}\nexec {shutil.which(name)} "$@"\n'
        person.write(f"bin/{name}", text).chmod(0o755)
    return f"{person.home / 'bin'}:/usr/bin:/bin", log
