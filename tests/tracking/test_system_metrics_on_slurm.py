"""What the ranks of real jobs use of their nodes, sampled there and read on the login node."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Person
from tests.support.servers import after_servers

pytestmark = pytest.mark.slurm

BUSY = """
import mmap, os, sys, time
content = b"x" * (60 << 20)
for _ in range(2):  # what they share counts once
    if os.fork() == 0:
        time.sleep(3)
        os._exit(0)
while time.process_time() < 1.0: pass
name = os.environ["HPCTF_ROLE"] + "-" + os.environ["HPCTF_INDEX"]
with open("outputs/" + name, "w") as stream:
    stream.write(str(time.process_time()))
time.sleep(2)
if os.environ["HPCTF_ROLE"] == "ps":
    time.sleep(600)
""" + after_servers("outputs/ps-{n}")
"""Holds 60 MB in three processes, and uses a core for a second."""


def submit(person: Person, *words: str) -> dict[str, Any]:
    """Submit it, wait for it, and return its status."""
    script = person.write("train.py", BUSY)
    site = person.write("often.yaml", "name: often\nextends: slurm\nsystem_metrics_s: 1\n")
    run = person.hpctf("submit", "--site", site, *words, "--wait", script).stdout.strip()
    return person.status(run)


def rows(status: dict[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return each rank's samples."""
    folder = Path(status["run_folder"]) / "metrics" / "system"
    return {
        path.stem: [record["row"] for record in map(json.loads, path.open()) if "row" in record]
        for path in folder.iterdir()
    }


def cpu_seconds(status: dict[str, Any], name: str) -> float:
    """Return the CPU seconds that a rank's samples tell of, however long each took."""
    path = Path(status["run_folder"]) / "metrics" / "system" / f"{name}.jsonl"
    records = [json.loads(line) for line in path.read_text().splitlines()]
    return sum(
        record["row"].get("cpu", 0) * (record["time"] - before["time"])
        for before, record in pairwise(records)
        if "row" in record
    )


def test_every_rank_of_a_het_job_is_sampled_and_compared_with_what_it_asked(
    person: Person,
) -> None:
    words = ["--backend", "ps", "--workers", "2", "--ps", "1", "--ps-mode", "script"]
    status = submit(person, *words, "--mem", "300M", "--cpus-per-task", "2")
    assert status["state"] == "Completed"
    found = rows(status)
    assert sorted(found) == ["chief-0", "ps-0", "worker-0", "worker-1"]
    for name, samples in found.items():
        counted = [row for row in samples if "memory" in row]
        assert {row["memory_count"] for row in counted} == {"cgroup"}
        assert 60 << 20 < max(row["memory"] for row in counted) < 150 << 20
        outputs = Path(status["run_folder"]) / "outputs"
        assert cpu_seconds(status, name) > 0.7 * float((outputs / name).read_text())
    nodes = {rank: node for node in status["used"]["nodes"] for rank in node["ranks"]}
    hosts = {f"{role['role']}-{role['index']}": role["host"] for role in status["roles"]}
    assert {rank: node["host"] for rank, node in nodes.items()} == hosts
    assert {node["memory_asked"] for node in nodes.values()} == {300 << 20}
    assert nodes["ps-0"]["cpu_asked"] == 2
    told = person.hpctf("status", status["id"]).stdout
    assert re.search(
        r"^used \S+ of \d+ cores on average, \d+ MB of 300 MB of memory on", told, re.M
    )


def test_ranks_of_mpirun_share_a_cgroup_and_are_counted_one_by_one(person: Person) -> None:
    site = person.write("often.yaml", "name: often\nextends: slurm-mpirun\nsystem_metrics_s: 1\n")
    script = person.write("train.py", BUSY)
    words = ["--site", site, "--backend", "mpi", "--procs-per-node", "2", "--wait"]
    run = person.hpctf("submit", *words, script).stdout.strip()
    found = rows(person.status(run))
    assert sorted(found) == ["worker-0", "worker-1"]
    for samples in found.values():
        assert {row["memory_count"] for row in samples if "memory" in row} == {"pss"}
        assert max(row.get("memory", 0) for row in samples) < 150 << 20


def test_a_run_is_watched_from_the_login_node(person: Person) -> None:
    script = person.write("train.py", BUSY)
    words = ["--backend", "collective", "--nodes", "2", script]
    run = person.hpctf("submit", *words).stdout.strip()
    told = person.hpctf("watch", run).stdout
    assert "Running: 2 workers running" in told
    assert f"{run}: Completed: 2 workers completed" in told
