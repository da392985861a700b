"""`hpctf why`: in plain words why a run waits or failed, from real cases."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

from hpctf.runs.explain import log_patterns
from tests.conftest import Person
from tests.faults.conftest import Clock
from tests.faults.inject import Faults
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slurm

SLEEP = "import time\nprint('up', flush=True)\ntime.sleep(600)\n"


def why(person: Person, run: str = "@last") -> str:
    """Return what ``hpctf why`` prints."""
    return person.hpctf("why", run).stdout


def submit(person: Person, *words: str, text: str = SLEEP) -> str:
    """Submit a script and return the run's id."""
    return person.hpctf("submit", *words, person.write("proj/train.py", text)).stdout.strip()


def job_of(person: Person, run: str) -> str:
    return str(person.status(run)["job_id"])


def wait_for_reason(person: Person, run: str, reason: str) -> None:
    wait_until(lambda: reason in person.status(run)["reason"])


def wait_for_state(person: Person, run: str, state: str) -> None:
    wait_until(lambda: person.status(run)["state"] == state)


class Partition:
    """A partition of this test's own, over node n4."""

    def __init__(self, person: Person) -> None:
        self._person = person
        self.name = f"why{person.home.name[-6:]}"
        self._scontrol("create", "Nodes=n4", "MaxTime=10:00:00", "State=UP")

    def update(self, setting: str) -> None:
        self._scontrol("update", setting)

    def delete(self) -> None:
        self._person.cluster.run("scancel", f"--partition={self.name}")
        wait_until(lambda: self.name not in "".join(self._person.cluster.queue()))
        self._scontrol("delete")

    def _scontrol(self, verb: str, *settings: str) -> None:
        self._person.cluster.run("scontrol", verb, f"PartitionName={self.name}", *settings)


@pytest.fixture
def partition(person: Person) -> Iterator[Partition]:
    made = Partition(person)
    yield made
    made.delete()


def test_resources_and_priority(person: Person, partition: Partition) -> None:
    into = ["--sbatch", f"partition={partition.name}"]
    first = submit(person, *into)
    wait_for_state(person, first, "Running")
    second = submit(person, *into, "--mem", "64000M", "--time", "60")
    third = submit(person, *into, "--mem", "64000M", "--time", "60")
    wait_for_reason(person, second, "Resources")
    wait_for_reason(person, third, "Priority")
    told = why(person, second)
    assert "waits: the resources that it requests are in use (Slurm says Resources)" in told
    asks = f"It requests 1 node of partition {partition.name}, of which 0 are free now."
    assert asks in told
    free = re.search(r"62\.50G of memory.*; (\d+) CPUs are free there", told)
    assert free and int(free[1]) < 16, (
        "the first run has one of them, other tests' jobs may have more"
    )
    for run in (second, third):  # as everywhere where priorities have no weights
        person.cluster.run("scontrol", "update", f"job={job_of(person, run)}", "priority=1000")
    wait_for_reason(person, third, "Priority")
    told = why(person, third)
    assert "waits: other jobs are ahead of it" in told
    assert f"1 job of partition {partition.name} is ahead of it." in told
    assert "shorter --time" in told


def test_a_partition_that_is_down_or_inactive(person: Person, partition: Partition) -> None:
    partition.update("State=DOWN")
    run = submit(person, "--sbatch", f"partition={partition.name}")
    wait_for_reason(person, run, "PartitionDown")
    assert f"Partition {partition.name} is DOWN." in why(person)
    partition.update("State=INACTIVE")
    wait_for_reason(person, run, "PartitionInactive")
    told = why(person)
    assert "its partition is switched off (state INACTIVE)" in told
    assert f"Partition {partition.name} is INACTIVE." in told


def test_a_time_limit_over_the_partitions(person: Person, partition: Partition) -> None:
    partition.update("State=DOWN")
    run = submit(person, "--sbatch", f"partition={partition.name}", "--time", "5:00:00")
    partition.update("MaxTime=1:00:00")
    partition.update("State=UP")
    wait_for_reason(person, run, "PartitionTimeLimit")
    told = why(person)
    assert f"It requests 05:00:00; partition {partition.name} allows 01:00:00." in told
    assert "with a shorter --time" in told


def test_a_dependency_names_what_it_waits_for(person: Person) -> None:
    first = submit(person, "--sbatch", "begin=2099-01-02")
    job = job_of(person, first)
    second = submit(person, "--sbatch", f"dependency=afterok:{job}")
    wait_for_reason(person, second, "Dependency")
    told = why(person, second)
    assert f"It waits for job {job} ({first}, PENDING) to complete without a failure." in told
    person.hpctf("cancel", first)
    wait_for_reason(person, second, "DependencyNeverSatisfied")
    assert "it will never start" in why(person, second)
    person.hpctf("cancel", second)


def test_held_by_its_user_or_an_administrator(person: Person) -> None:
    run = submit(person, "--sbatch", "begin=2099-01-02")
    person.cluster.run("scontrol", "hold", job_of(person, run), user=person.user)
    wait_for_reason(person, run, "JobHeldUser")
    told = why(person)
    assert "waits: it is held by its user" in told
    assert f"scontrol release {job_of(person, run)}" in told
    person.cluster.run("scontrol", "hold", job_of(person, run))
    wait_for_reason(person, run, "JobHeldAdmin")
    told = why(person)
    assert "waits: it is held by an administrator" in told
    assert "only an administrator can release it" in told
    person.hpctf("cancel", run)


def test_a_time_to_begin(person: Person) -> None:
    run = submit(person, "--sbatch", "begin=2099-01-02T03:04:05")
    wait_for_reason(person, run, "BeginTime")
    assert "It may start on 2099-01-02 at 03:04:05." in why(person)
    answer: dict[str, Any] = json.loads(person.hpctf("why", run, "--json").stdout)
    assert answer["id"] == run and answer["state"] == "Queued"
    assert "its begin time has not come" in answer["headline"]
    person.hpctf("cancel", run)


@pytest.mark.fault("the QOS allows no more jobs, or no license is free", "`why` gives the figures")
def test_limits_and_licenses(person: Person, faults: Faults, clock: Clock) -> None:
    run = person.cluster.run
    enforced = {"AccountingStorageEnforce": "qos,limits", "Licenses": "solver:1"}
    # What counts is that both are there: a request that sacctmgr sends again fails the second time.
    user = str(person.user)
    run("sacctmgr", "--immediate", "add", "account", "why", check=False)
    run("sacctmgr", "--immediate", "add", "user", user, "account=why", check=False)
    shown = ("sacctmgr", "--noheader", "--parsable2", "show", "assoc", f"user={user}")
    there = run(*shown, "account=why", "format=account,user").stdout.split()
    assert set(there) == {f"why|{user}"}  # on each cluster that slurmdbd knows
    run("sacctmgr", "--immediate", "modify", "qos", "normal", "set", "MaxJobsPerUser=1")
    try:
        with faults.settings(**enforced):
            first = submit(person)
            wait_for_state(person, first, "Running")
            clock.injected()
            second = submit(person)
            wait_for_reason(person, second, "QOSMaxJobsPerUserLimit")
            told = why(person, second)
            clock.right()
            assert "its QOS has a limit on the running jobs that a user may have" in told
            assert "The limit is 1 (QOS normal)." in told
            person.hpctf("cancel", first, second)
            run("sacctmgr", "--immediate", "modify", "qos", "normal", "set", "MaxJobsPerUser=-1")
            third = submit(person, "--sbatch", "licenses=solver")
            wait_for_state(person, third, "Running")
            fourth = submit(person, "--sbatch", "licenses=solver")
            wait_for_reason(person, fourth, "Licenses")
            told = why(person, fourth)
            assert "It requests 1 of license solver: 1 of 1 are in use." in told
            person.hpctf("cancel", third, fourth)
    finally:
        run("sacctmgr", "--immediate", "modify", "qos", "normal", "set", "MaxJobsPerUser=-1")
        run("sacctmgr", "--immediate", "delete", "user", user, check=False)
        run("sacctmgr", "--immediate", "delete", "account", "why", check=False)


@pytest.mark.fault("a node that a run needs is drained", "`why` names the node and the reason")
def test_a_node_that_is_not_available_and_a_reservation(
    person: Person, faults: Faults, clock: Clock
) -> None:
    run = person.cluster.run
    run("scontrol", "update", "NodeName=n4", "State=DRAIN", "Reason=broken fan")
    try:
        clock.injected()
        waiting = submit(person, "--sbatch", "nodelist=n4")
        wait_until(lambda: "DRAINED" in why(person) or "NotAvail" in why(person))
        told = why(person)
        clock.right()
        assert "Not available: n4 is drained (broken fan)." in told
        person.hpctf("cancel", waiting)
    finally:
        run("scontrol", "update", "NodeName=n4", "State=RESUME")
    settings = ["StartTime=2099-01-02T03:04:05", "Duration=1", "Nodes=n4", "Users=hpctftest"]
    run("scontrol", "create", "reservation", "ReservationName=why", *settings)
    waiting = submit(person, "--sbatch", "reservation=why", "--time", "1")
    wait_for_reason(person, waiting, "Reservation")
    assert "Reservation why begins on 2099-01-02 at 03:04:05." in why(person)
    person.hpctf("cancel", waiting)
    run("scontrol", "delete", "ReservationName=why")


def failed(person: Person, *words: str, text: str) -> str:
    """Run a script that fails, and return what ``hpctf why`` tells."""
    script = person.write("proj/train.py", text)
    done = person.hpctf("submit", "--wait", *words, script, check=False)
    assert done.returncode == 1
    return why(person)


def test_a_module_that_is_not_installed(person: Person) -> None:
    allow = ("--env", "HPCTF_ALLOW_MISSING_MODULES=1")
    told = failed(person, *allow, text="import no_such_module_anywhere\n")
    assert "failed: worker-0 on n" in told and "exit code 1" in told
    assert "The module no_such_module_anywhere is not installed in the training's Python" in told
    assert "--python" in told
    assert "ModuleNotFoundError" in told


def test_out_of_memory(person: Person) -> None:
    told = failed(
        person,
        *("--mem", "100M"),
        text="import time\nx = bytearray(300_000_000)\nx[::4096] = b'x' * len(x[::4096])\n",
    )
    assert "out of memory" in told
    assert "Its limit is 100 MB" in told
    assert "Request more memory: --mem (it was 100M)." in told


def test_a_crash_by_a_signal(person: Person) -> None:
    told = failed(person, text="import os\nos.kill(os.getpid(), 11)\n")
    assert "signal 11 (SIGSEGV)" in told
    assert "A library crashed (segmentation fault)." in told


def test_a_program_that_the_node_cannot_run(person: Person) -> None:
    person.write("proj/run.sh", "\x7fELF is not what this is\n").chmod(0o755)
    done = person.hpctf("submit", "--wait", person.home / "proj/run.sh", check=False)
    assert done.returncode == 1
    told = why(person)
    assert "exit code 126" in told
    assert "A program cannot run on the node's kind of machine." in told


@pytest.mark.parametrize(
    ("log", "meaning"),
    [
        ("ImportError: libcudart.so.12: cannot open shared object file: No such file", "libcudart"),
        ("numpy.core._exceptions._ArrayMemoryError: Unable to allocate 9 GiB", "not allocate"),
        ("tensorflow...ResourceExhaustedError: {{function_node}} OOM when allocating", "a device"),
        ("OSError: [Errno 28] No space left on device: 'x'", "a disk is full"),
        ("OSError: [Errno 122] Disk quota exceeded: 'x'", "disk quota"),
        ("PermissionError: [Errno 13] Permission denied: '/data/x'", "run /data/x"),
        ("  File \"t.py\", line 1\n    x = = 1\nSyntaxError: invalid syntax", "not valid Python"),
        ("The application appears to have been direct launched using \"srun\",\nbut OMPI was not "
         "built with SLURM's PMI support", "MPI library does not work"),
        ("No PMIx server was reachable, but a PMI1/2 was detected.\nIf srun is being used to "
         "launch application,  2 singletons will be started.", "MPI library does not work"),
        ("[1,0]<stderr>: Stalled ranks:\n0: [allreduce.a]", "waited for others"),
        ("slurmstepd: error: execve(): /opt/x/python: No such file or directory", "hpctf's own"),
        ("tensorflow...UnavailableError: failed to connect to all addresses", "lost the connec"),
        ("TypeError: Cannot convert PerReplica:{ to Tensor", "Keras 3"),
    ],
)  # fmt: skip
def test_what_the_last_lines_of_a_log_mean(log: str, meaning: str) -> None:
    known = log_patterns.of_lines(log.splitlines(), "/usr/bin/python3")
    assert known is not None and meaning in known.meaning


def test_tensorflows_chatter_about_cuda_is_not_taken_for_a_cause() -> None:
    chatter = "2026-11-23 15:00:00.1: E cuda_driver.cc:266] failed call to cuInit: NO_DEVICE"
    assert log_patterns.of_lines([chatter, "Segmentation fault"], "python") is not None
    raised = "Traceback (most recent call last):\nValueError: Shapes (3,) and (4,) do not fit"
    assert log_patterns.of_lines(["x: not found", chatter, *raised.splitlines()], "python") is None


def test_completed_and_running(person: Person) -> None:
    run = submit(person)
    wait_for_state(person, run, "Running")
    assert f"Run {run} runs." in why(person)
    assert "It has run since" in why(person)
    person.hpctf("cancel", run)
    person.hpctf("wait", run, check=False)
    assert "was cancelled: it was cancelled by user hpctftest." in why(person)
    person.hpctf("submit", "--wait", person.write("proj/ok.py", "print(1)\n"))
    assert why(person).endswith("completed.\n")
