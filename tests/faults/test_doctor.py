"""Broken clusters, and whether the doctor names what is broken and what to do."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from tests.admin.doctor.test_doctor_on_slurm import SITE, examined, left_by
from tests.conftest import Person
from tests.faults.inject import Faults
from tests.support.priority import first_on_cpu
from tests.support.waiting import HANGS_S, wait_until

pytestmark = pytest.mark.slurm


@contextmanager
def blocked(person: Person, node: str, first: int, last: int) -> Iterator[None]:
    """Drop what comes to a node on TCP ports, as a firewall does."""
    rules = (
        "add table inet hpctf_doctor; "
        "add chain inet hpctf_doctor in { type filter hook input priority 0; }; "
        f"add rule inet hpctf_doctor in tcp dport {first}-{last} drop"
    )
    person.cluster.node_command(node, "nft", rules)
    try:
        yield
    finally:
        person.cluster.node_command(node, "nft", "delete table inet hpctf_doctor")


@contextmanager
def slow(person: Person, node: str) -> Iterator[None]:
    """Let a node send 100 Mbit/s at most, by whichever link."""
    shown = person.cluster.node_command(node, "ip", "-json", "link").stdout
    links = [link["ifname"] for link in json.loads(shown)]
    discipline = ["root", "tbf", "rate", "100mbit", "burst", "64kb", "latency", "400ms"]
    links.remove("lo")
    for link in links:
        person.cluster.node_command(node, "tc", "qdisc", "replace", "dev", link, *discipline)
    try:
        yield
    finally:
        for link in links:
            person.cluster.node_command(node, "tc", "qdisc", "delete", "dev", link, "root")


@contextmanager
def drained(person: Person) -> Iterator[None]:
    """Let no node take a job."""
    nodes = ",".join(person.cluster.nodes)
    change = ["scontrol", "update", f"nodename={nodes}"]
    person.cluster.run(*change, "state=drain", "reason=test")
    try:
        yield
    finally:
        person.cluster.run(*change, "state=resume")


def test_blocked_ports_are_named_with_a_range_that_is_open(person: Person, faults: Faults) -> None:
    with blocked(person, "n2", 20000, 24999):
        report = examined(person, "--site", SITE, "--job", "--python", "/usr/bin/python3", code=1)
    check = report["checks"]["ports"]
    assert check["state"] == "failed"
    assert "n1 → n2:20000: no answer within 3 s" in check["detail"]
    first, last = report["proposals"]["ports.first"], report["proposals"]["ports.last"]
    assert 25000 <= first < last == 29999
    assert f"ports: {{first: {first}, last: {last}}}" in check["remedy"]
    assert report["checks"]["runs root shared"]["state"] == "ok"
    assert left_by(person) == []


def test_with_the_whole_range_blocked_another_is_proposed(person: Person, faults: Faults) -> None:
    with blocked(person, "n2", 20000, 29999):
        report = examined(person, "--site", SITE, "--job", "--python", "/usr/bin/python3", code=1)
    assert report["proposals"]["ports.first"] == 10000
    assert report["proposals"]["ports.last"] == 19999


def test_refused_het_jobs_are_named_with_the_placement_that_works(
    person: Person, faults: Faults
) -> None:
    """Slurm takes het jobs with its backfill scheduler alone (slurmctld: proc_req.c)."""
    with faults.settings(SchedulerType="sched/builtin"):
        report = examined(person, "--site", SITE, "--job", "--python", "/usr/bin/python3", code=1)
    check = report["checks"]["het jobs"]
    assert check["state"] == "failed"
    assert "sbatch refused the job" in check["detail"]
    assert "ps.placement: shared" in check["remedy"]
    assert report["proposals"]["ps.placement"] == "shared"
    assert report["checks"]["job"]["state"] == "ok"


def test_a_slow_node_is_named(person: Person, faults: Faults, training_python: str) -> None:
    with slow(person, "n3"), first_on_cpu("mpi_probe.py"):
        words = ["--job", "--nodes", "3", "--python", training_python]
        report = examined(person, "--site", SITE, *words, code=1)
    check = report["checks"]["slow nodes"]
    assert check["state"] == "failed"
    assert check["detail"].startswith("n3: ")
    assert "n1: " not in check["detail"] and "n2: " not in check["detail"]
    assert "exclude" in check["remedy"]


def test_without_slurmdbd_accounting_is_named_and_all_else_goes_on(
    person: Person, faults: Faults
) -> None:
    with faults.stopped("slurmdbd"):
        report = examined(person, "--site", SITE, code=1)
    assert report["checks"]["accounting"]["state"] == "failed"
    assert "slurmdbd" in report["checks"]["accounting"]["remedy"]
    assert report["checks"]["target normal"]["state"] == "ok"


def test_without_slurmctld_the_exit_code_says_so(person: Person, faults: Faults) -> None:
    with faults.stopped("slurmctld"):
        report = examined(person, "--site", SITE, "--job", code=3)
    assert report["checks"]["Slurm"]["state"] == "failed"
    assert "slurmctld does not answer" in report["checks"]["Slurm"]["remedy"]
    assert report["checks"]["job"]["state"] == "skipped"


def test_a_partition_that_is_down_is_named(person: Person, faults: Faults) -> None:
    partition = ["scontrol", "update", "partitionname=high"]
    person.cluster.run(*partition, "state=down")
    try:
        report = examined(person, "--site", SITE, code=1)
    finally:
        person.cluster.run(*partition, "state=up")
    check = report["checks"]["target high"]
    assert check["state"] == "failed"
    assert "its state is DOWN" in check["detail"]
    assert "targets.high.partition: normal" in check["remedy"]


def test_a_queue_that_does_not_move_is_told_and_the_jobs_are_cancelled(
    person: Person, faults: Faults
) -> None:
    with drained(person):
        report = examined(person, "--site", SITE, "--job", "--wait-at-most", "0:02", code=1)
        assert report["checks"]["target normal"]["state"] == "failed"
        assert "had not begun after" in report["checks"]["job"]["detail"]
        assert "--wait-at-most" in report["checks"]["job"]["remedy"]
        assert left_by(person) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_doctor_cancels_its_jobs(
    person: Person, faults: Faults, number: signal.Signals
) -> None:
    with drained(person):
        words = ["doctor", "--site", str(SITE), "--job"]
        python = [str(person.bin / "python"), "-c", START]
        doctor = subprocess.Popen(
            ["/usr/sbin/runuser", "-u", str(person.user), "--", *python, *words],
            env={**person.cluster.env, **person.env, "PATH": "/usr/bin:/bin"},
            cwd=person.home,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        pid_file = person.home / "pid"
        wait_until(lambda: len(probes(person)) == 3)
        subprocess.run(["kill", f"-{number.name[3:]}", pid_file.read_text()], check=True)
        doctor.wait(timeout=HANGS_S)
        assert doctor.returncode == 130
        assert probes(person) == []
        assert left_by(person) == []


START = """
import os
with open("pid", "w") as stream:
    stream.write(str(os.getpid()))
from hpctf.cli import main
main()
"""


def probes(person: Person) -> list[str]:
    """Return the doctor's jobs in the queue; a het job is one line a component."""
    waiting = [line for line in person.cluster.queue() if "doctor-" in line]
    return [line for line in waiting if "PENDING" in line or "RUNNING" in line]
