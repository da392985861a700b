"""A job that a list lacks, under another name, or in a state that nobody knows, is not over."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.conftest import Person
from tests.faults.conftest import Clock
from tests.faults.inject import Faults
from tests.faults.test_state import submit, told
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slurm

LATER = ("--sbatch", "begin=now+1hour")
OLD = 3600.0


def replaced(person: Person, **programs: str) -> str:
    """Put shell scripts in the place of Slurm's commands, and return the PATH; ``{real}`` is the
    command itself."""
    for name, text in programs.items():
        path = person.write(f"bin/{name}", f"#!/bin/sh\n{text.format(real=shutil.which(name))}\n")
        path.chmod(0o755)
    return f"{person.home / 'bin'}:/usr/bin:/bin"


def long_ago(person: Person, run: str) -> None:
    """Let a run's records be old."""
    folder = person.folder(run)
    for path in [folder / "run.json", *folder.glob("state/*")]:
        os.utime(path, (time.time() - OLD, time.time() - OLD))


LISTS = {
    "squeue lists nothing": {"squeue": "exit 0"},
    "squeue and sacct list nothing": {"squeue": "exit 0", "sacct": "exit 0"},
    "squeue says a site's own words": {"squeue": "echo Welcome; exit 0"},
    "sacct says that there is none": {
        "squeue": "exit 0",
        "sacct": "echo 'Slurm accounting storage is disabled' >&2; exit 1",
    },
}


@pytest.mark.fault("squeue's list lacks a queued job", "asks about that job alone: Queued")
def test_a_list_that_lacks_a_queued_job(person: Person, clock: Clock) -> None:
    run = submit(person, *LATER)
    job = str(person.status(run)["job_id"])
    person.cluster.run("scontrol", "update", f"job={job}", "name=renamed")
    long_ago(person, run)
    clock.injected()
    assert told(person, run)[0] == "Queued"
    for programs in LISTS.values():
        path = (
            replaced(person, sacct='{real} "$@"', **programs)
            if "sacct" not in programs
            else (replaced(person, **programs))
        )
        state = person.hpctf("status", run, PATH=path).stdout
        assert "Queued" in state, programs
        refused = person.hpctf("runs", "--rm", run, "--yes", check=False, PATH=path)
        assert refused.returncode == 2
        assert f"Run {run} must stay" in refused.stderr
    clock.right()
    assert told(person, run)[0] == "Queued"

    # Settled as failed by mistake, and long ago: removing and archiving ask for the job once more.
    final = person.folder(run) / "state/final.json"
    mistake = {"state": "Failed", "reason": "by mistake", "ranks": 1, "time": 0.0}
    final.write_text(json.dumps({**person.status(run), **mistake}))
    long_ago(person, run)
    for words in (["runs", "--rm", run, "--yes"], ["archive", run, "--yes"]):
        for programs, why in (
            ({"squeue": "exit 0", "sacct": "exit 0"}, "is in the queue"),
            ({"squeue": "exit 0", "scontrol": "echo down >&2; exit 1"}, "could not be asked"),
        ):
            shutil.rmtree(person.home / "bin", ignore_errors=True)
            refused = person.hpctf(*words, check=False, PATH=replaced(person, **programs))
            assert refused.returncode == 2, refused.stderr
            assert why in refused.stderr
    assert person.folder(run).exists()
    final.unlink()
    shutil.rmtree(person.home / "bin")

    # `cancel` asks for it, too, by its id: a name that has changed is no obstacle.
    away = replaced(person, scontrol="echo down >&2; exit 1")
    refused = person.hpctf("cancel", run, check=False, PATH=away)
    assert refused.returncode == 3
    assert "Nothing was cancelled" in refused.stderr
    person.hpctf("cancel", run)
    assert told(person, run)[0] == "Canceled"


@pytest.mark.fault(
    "Slurm reports a state that hpctf does not know", "shows it as it is; the run is not over"
)
def test_a_state_of_a_newer_slurm(person: Person, clock: Clock) -> None:
    run = submit(person, *LATER)
    long_ago(person, run)
    clock.injected()
    for state in ("MIGRATING", "COMPLETED,MIGRATING", "CANCELLED,EXPEDITING"):
        path = replaced(person, squeue=f"{{real}} \"$@\" | sed 's/PENDING/{state}/'")
        shown = person.hpctf("status", run, PATH=path).stdout
        assert f"Slurm says {state}" in shown or "Finalizing" in shown
    clock.right()
    assert told(person, run)[0] == "Queued"
    person.hpctf("cancel", run)


@pytest.fixture
def passing(person: Person, faults: Faults) -> Iterator[str]:
    """The name of a QOS, an account with it, and a reservation, all of which may be deleted."""
    run, name, user = person.cluster.run, "passing", str(person.user)
    reservation = [f"Reservation={name}", "StartTime=now+1hour", "Duration=60", f"Users={user}"]
    accounting = ("sacctmgr", "--immediate", "--quiet")
    with faults.settings(AccountingStorageEnforce="qos,limits"):
        try:
            run(*accounting, "add", "qos", name)
            run(*accounting, "add", "account", name)
            run(*accounting, "add", "user", user, f"account={name}")
            run(*accounting, "modify", "user", user, "set", f"qos=normal,{name}")
            run("scontrol", "create", *reservation, "Nodes=n4")
            yield name
        finally:
            run("scancel", f"--user={user}", check=False)
            for what in (["user", user], ["account", name], ["qos", name]):
                run(*accounting, "delete", *what, check=False)
            run("scontrol", "delete", f"Reservation={name}", check=False)


@pytest.mark.fault(
    "the job can never start: its dependency failed, its reservation or QOS was deleted",
    "`wait` says so at once, and ends after a minute with the reason (exit code 3)",
)
def test_waiting_for_what_never_starts(person: Person, passing: str, clock: Clock) -> None:
    cluster = person.cluster
    failing = cluster.run(
        *("sbatch", "--parsable", "--output=/dev/null", "--wrap=exit 1"), user=person.user
    ).stdout.strip()
    of_qos = (*LATER, "--sbatch", f"qos={passing}", "--sbatch", f"account={passing}")
    runs = {
        "DependencyNeverSatisfied": submit(person, "--sbatch", f"dependency=afterok:{failing}"),
        f"Reservation {passing} was deleted": submit(
            person, *LATER, "--sbatch", f"reservation={passing}"
        ),
        "InvalidQOS": submit(person, *of_qos),
    }
    held = submit(person, *LATER)
    cluster.run("scontrol", "hold", str(person.status(held)["job_id"]))
    clock.injected()
    cluster.run("scontrol", "update", f"Reservation={passing}", "StartTime=now", "EndTime=now+1")
    cluster.run("sacctmgr", "--immediate", "--quiet", "delete", "qos", passing)
    for reason, run in runs.items():
        wait_until(lambda words=reason, run=run: told(person, run)[1] == words)
    ways = (["wait"], ["logs", "--follow"], ["result"])
    with ThreadPoolExecutor() as threads:
        commands = [[*way, run] for way, run in zip(ways, runs.values(), strict=True)]
        waits = [
            threads.submit(lambda words: person.hpctf(*words, check=False), words)
            for words in commands
        ]
        for_held = threads.submit(lambda: person.hpctf("wait", held, check=False))
        ended = [wait.result() for wait in waits]
        assert not for_held.done(), "what is held can be released"
        person.hpctf("cancel", held)
    clock.right()
    for done, (reason, run) in zip(ended, runs.items(), strict=True):
        assert done.returncode == 3, done.stderr
        assert f"Run {run} will never start" in done.stderr
        assert f"(Slurm says {reason})" in done.stderr
        assert told(person, run) == ("Queued", reason)
    assert "it will never start as it is" in ended[0].stderr
    person.hpctf("cancel", *runs.values())
