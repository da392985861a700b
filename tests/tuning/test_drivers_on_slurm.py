"""Studies whose trials are jobs of their own, on a real Slurm: whatever becomes of their driver."""

from __future__ import annotations

import json
import random
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Person
from tests.support.waiting import wait_until
from tests.tuning.test_studies_on_slurm import (
    agent_pid,
    claims_of,
    ended,
    ledger,
    look,
    steps_of,
    study,
    until_running,
)

pytestmark = pytest.mark.slurm

TWO_NODES = ("--backend", "collective", "--nodes", "2")


def jobs_of(person: Person, name: str) -> Counter[str]:
    """Return how many jobs Slurm has had of each trial of a study."""
    listed = person.cluster.run(
        *("sacct", "--allusers", "--noheader", "--parsable2", "--allocations"),
        *("--format=JobName", "--starttime=now-1hour"),
    )
    return Counter(line for line in listed.stdout.splitlines() if line.startswith(f"{name}_"))


def state_of(person: Person, job_id: str) -> str:
    """Return Slurm's state of a job that it has."""
    command = ("squeue", "--noheader", "--states=all", "--format=%T", f"--jobs={job_id}")
    return person.cluster.run(*command, check=False).stdout.strip()


def test_trials_of_two_nodes_are_jobs_and_are_judged(person: Person) -> None:
    name = study(
        person,
        *("--param", "kind=choice('well', 'crash')", "--param", "lr=choice(9, 1)"),
        *("--sampler", "grid", "--parallel", "1", "--policy", "bandit:amount=0.5", *TWO_NODES),
        script=("--wait-for", str(person.home / "never"), "--waits-below", "9"),
    )
    found = ended(person, name)
    good, bad, *crashed = found["trials"]
    assert found["state"] == "Completed", found
    assert [row["state"] for row in found["trials"]] == ["completed", "stopped", *["failed"] * 2]
    assert bad["reason"].startswith("stopped early at value 1: bandit: best 1 < 8.5 = 9 - 0.5")
    for row in crashed:
        assert "worker-" in row["reason"] and row["reason"].endswith("ValueError: no such data")

    # each is a run of its backend, with a job of its own; both ranks have trained
    assert len({row["job_id"] for row in found["trials"]} | {found["job_id"]}) == 5
    status = person.status(good["id"])
    assert (status["state"], status["backend"]) == ("Completed", "collective")
    assert [rank["state"] for rank in status["roles"]] == ["Completed"] * 2
    told = person.status(bad["id"])
    assert (told["state"], told["reason"]) == ("Canceled", bad["reason"])
    assert json.loads(person.hpctf("tune", "best", name, "--json").stdout)["trial"] == 0
    assert (good["value"], good["values"]) == (11.0, 3)
    assert set(jobs_of(person, name).values()) == {1}


def test_a_driver_that_is_killed_again_and_again_loses_no_trial_and_doubles_none(
    person: Person,
) -> None:
    gate = person.home / "gate"
    name = study(
        person,
        *("--param", "lr=uniform(0, 1)", "--trials", "6", "--parallel", "3", "--job-per-trial"),
        script=("--steps", "8", "--wait-for", str(gate)),
    )
    wait_until(
        lambda: Path(look(person, name)["run_folder"], "state/worker-0.jsonl").stat().st_size
    )
    found = look(person, name)
    killed = ""
    for _ in range(4):
        wait_until(lambda: agent_pid(look(person, name), 0) != killed)  # noqa: B023
        killed = agent_pid(found, 0)
        time.sleep(random.uniform(0, 1.5))
        person.cluster.run("kill", "-9", killed)
    until_running(person, name, 3)

    # trials go on without a driver: the next one is here once Slurm has started its job again
    job_id = look(person, name)["job_id"]
    person.cluster.run("scontrol", "requeue", job_id)
    gate.touch()
    found = ended(person, name)
    assert (found["state"], found["counts"]) == ("Completed", {"completed": 6, "not started": 0})
    assert all((row["values"], row["attempt"]) == (8, 0) for row in found["trials"])
    for row in found["trials"]:
        assert steps_of(person, row) == list(range(8))
    each_once = Counter({f"{name}_{number}": 1 for number in range(6)})
    wait_until(lambda: jobs_of(person, name).keys() == each_once.keys())  # slurmdbd learns it later
    assert jobs_of(person, name) == each_once
    assert jobs_of(person, name).keys() == {row["id"] for row in found["trials"]}
    claims = [record["trial"] for record in claims_of(person, name)]
    assert claims == list(range(6))


def terms(person: Person, name: str) -> list[dict[str, Any]]:
    """Return the ledger's records of who drives the study."""
    return [record for record in ledger(person, name) if record["event"] == "driver"]


def test_a_silent_driver_is_replaced_and_gives_way(person: Person) -> None:
    """It is only held up: once it goes on, two processes think that they drive the study."""
    gate = person.home / "gate"
    name = study(
        person,
        *("--param", "lr=uniform(0, 1)", "--trials", "3", "--parallel", "1"),
        *("--backend", "mpi", "--nodes", "2"),
        script=("--steps", "4", "--wait-for", str(gate)),
    )
    found = until_running(person, name)
    first = agent_pid(found, 0)
    python = person.bin / "python"
    words = [python, "-I", "-S", agent_start_of(python, person), "driver", found["run_folder"], "0"]
    other = person.cluster.run(
        *("sbatch", "--parsable", "--output=other.log", "--wrap", " ".join(map(str, words))),
        user=person.user,
        cwd=person.home,
    ).stdout.strip()
    log = person.home / "other.log"
    wait_until(lambda: log.exists() and "another driver has the study" in log.read_text())
    assert len(terms(person, name)) == 1

    person.cluster.run("kill", "-STOP", first)
    wait_until(lambda: len(terms(person, name)) == 2)
    person.cluster.run("kill", "-CONT", first)
    own_log = Path(found["run_folder"], "logs/job.log")
    wait_until(lambda: "another driver has taken the study over" in own_log.read_text())
    gate.touch()
    wait_until(lambda: state_of(person, other) in ("COMPLETED", ""))
    found = ended(person, name)
    assert (found["state"], found["counts"]) == ("Completed", {"completed": 3, "not started": 0})
    assert set(jobs_of(person, name).values()) == {1}


def agent_start_of(python: Path, person: Person) -> str:
    """Return the start script of the installed hpctf."""
    code = "from hpctf.common.paths import AGENT_START; print(AGENT_START)"
    return person.cluster.run(python, "-c", code, user=person.user).stdout.strip()


def test_a_driven_study_is_steered_by_files_alone(person: Person) -> None:
    gate = person.home / "gate"
    name = study(
        person,
        *("--param", "lr=uniform(0, 1)", "--trials", "5", "--parallel", "1", "--job-per-trial"),
        script=("--steps", "4", "--wait-for", str(gate)),
    )
    until_running(person, name)
    person.hpctf("tune", "set", name, "--parallel", "2")
    found = until_running(person, name, 2)
    person.hpctf("cancel", found["trials"][0]["id"])
    found = until_running(person, name, 3)
    assert found["trials"][0]["state"] == "canceled"

    # nobody drives it, and its trials run: stopping it must end them all the same
    person.cluster.run("scontrol", "requeuehold", found["job_id"])
    wait_until(lambda: "PENDING" in state_of(person, found["job_id"]))
    person.hpctf("tune", "stop", name)
    found = ended(person, name)
    assert (found["state"], found["counts"]) == ("Canceled", {"canceled": 3, "not started": 2})
    ids = [row["job_id"] for row in found["trials"]]
    wait_until(lambda: not any("RUNNING" in state_of(person, job_id) for job_id in ids))
    gate.touch()
    person.hpctf("tune", "resume", name)
    found = ended(person, name)
    assert (found["state"], found["counts"]["completed"]) == ("Completed", 2)
    assert set(jobs_of(person, name).values()) == {1}
