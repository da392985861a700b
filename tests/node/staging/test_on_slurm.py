"""Data on the nodes' own disks on the real cluster: copies come and go, and what stops them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import Person
from tests.faults.conftest import faults  # noqa: F401  (a fixture)
from tests.faults.inject import Faults
from tests.support.servers import after_servers
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slurm

READS = """
import os, time
path = os.environ["HPCTF_INPUT_DATA"]
rank = os.environ["HPCTF_ROLE"] + os.environ["HPCTF_INDEX"]
open("outputs/" + rank, "w").write(path + " " + open(path + "/x").read())
time.sleep(float(os.environ.get("SECONDS", "0")))
""" + after_servers("outputs/ps{n}")
TWO_NODES = ("--sbatch", "nodelist=n[1-2]", "-b", "collective", "-n", "2", "--sbatch", "mem=300")
HET = ("-b", "ps", "--workers", "1", "--ps", "1", "--ps-mode", "script", "--sbatch", "mem=300")


@pytest.fixture
def data(person: Person) -> Path:
    """A folder on the shared file system, of 4 MB."""
    person.write("proj/train.py", READS)
    person.write("data/x", "read")
    large = person.write("data/large", "")
    large.write_bytes(bytes(4 << 20))
    return large.parent


def submit(person: Person, data: Path, *words: str) -> str:
    words = ("--stage", f"data={data}", *words, "proj/train.py")
    return person.hpctf("submit", *words).stdout.strip()


def on_nodes(person: Person, script: str, *words: str) -> str:
    """Run shell lines as the person on every node, and return what they print."""
    step = ("srun", "--immediate=60", "--mem=50", *(words or ("--nodes=4",)))
    return person.cluster.run(*step, "sh", "-c", script, user=person.user).stdout


def left(person: Person) -> str:
    """What jobs have left on any node."""
    return on_nodes(person, 'ls -A "/tmp/hpctf-$(id -u)/jobs" 2>/dev/null; true')


def test_each_node_has_a_copy_while_the_job_runs_and_no_longer(person: Person, data: Path) -> None:
    runs = [submit(person, data, *words) for words in (TWO_NODES, HET)]
    stays = submit(person, data, "--env", "SECONDS=600", *TWO_NODES)
    for run, ranks in zip(runs, (("worker0", "worker1"), ("worker0", "ps0")), strict=True):
        person.hpctf("wait", run)
        for rank in ranks:
            path, words = person.output(rank, run).split()
            assert path.startswith("/tmp/hpctf-") and path.endswith("/data/data")
            assert words == "read"
    wait_until(lambda: (person.folder(stays) / "outputs/worker1").exists())
    assert left(person) != ""
    person.hpctf("cancel", stays)
    person.hpctf("wait", stays, check=False)
    wait_until(lambda: person.jobs() == [])
    assert left(person) == ""


@contextmanager
def waiting(person: Person) -> Iterator[None]:
    """Have whoever stages on n1 wait for a job that does so."""
    script = (
        'area="/tmp/hpctf-$(id -u)"; mkdir -pm 700 "$area"; '
        f'exec flock "$area/lock" sh -c "touch {person.home}/waits; exec sleep 600"'
    )
    words = ("--nodelist=n1", "--mem=50", "--output=/dev/null", "--parsable")
    job = person.cluster.run("sbatch", *words, "--wrap", script, user=person.user).stdout.strip()
    try:
        wait_until((person.home / "waits").exists)
        yield
    finally:
        person.cluster.run("scancel", job, user=person.user)
        (person.home / "waits").unlink(missing_ok=True)


def test_a_run_is_cancelled_while_its_data_is_staged(person: Person, data: Path) -> None:
    with waiting(person):
        run = submit(person, data, *TWO_NODES)
        wait_until(lambda: "staging data on 1 node" in person.status(run)["reason"])
        assert person.status(run)["state"] == "Preparing"
        assert "n1 has been copying since" in person.hpctf("why", run).stdout
        person.hpctf("cancel", run)
        person.hpctf("wait", run, check=False)
        assert person.status(run)["state"] == "Canceled"
        assert person.hpctf("logs", run, "--role", "worker").stdout == ""
    wait_until(lambda: person.jobs() == [])
    assert left(person) == ""


def test_a_node_with_too_little_room(person: Person, data: Path) -> None:
    make = "mkdir -p /tmp/small; chmod 1777 /tmp/small"
    mount = f"{make}; mount -t tmpfs -o size=1m,mode=1777 tmpfs /tmp/small"
    small = ("--set", "staging.folder=/tmp/small")
    on_root = ("srun", "--mem=50", "--nodes=1")
    person.cluster.run(*on_root, "-w", "n1", "sh", "-c", make)
    person.cluster.run(*on_root, "-w", "n2", "sh", "-c", mount)
    try:
        run = submit(person, data, *TWO_NODES, *small)
        shared = submit(person, data, *TWO_NODES, *small, "--set", "staging.fallback=shared")
        done = person.hpctf("wait", run, check=False)
        assert done.returncode == 1
        status = person.status(run)
        assert status["reason"].startswith("Node n2 has too little room in '/tmp/small/hpctf-")
        assert "4.2 MB are needed, 1.0 MB are free" in status["reason"]
        assert "staging.fallback=shared" in person.hpctf("why", run).stdout

        person.hpctf("wait", shared)
        places = {person.output(f"worker{n}", shared).split()[0] for n in (0, 1)}
        assert str(data) in places and any(one.startswith("/tmp/small/") for one in places)
        assert "It reads the shared files" in person.hpctf("logs", shared, "--role", "job").stdout
        assert (
            on_nodes(person, "ls -A /tmp/small/*/jobs 2>/dev/null; true", "-N2", "-wn[1-2]") == ""
        )
    finally:
        person.cluster.run(*on_root, "-w", "n2", "umount", "/tmp/small")


def test_a_source_that_changes_while_nodes_copy_it(person: Person, data: Path) -> None:
    (data / "many").mkdir()
    for number in range(10_000):
        (data / f"many/{number}").touch()
    run = submit(person, data, *TWO_NODES)
    state = person.folder(run) / "state"
    while not any('"copied"' in path.read_text() for path in state.glob("node-*.jsonl")):
        assert not (state / "final.json").exists()
    (data / "x").write_text("changed")  # their last file
    assert person.hpctf("wait", run, check=False).returncode == 1
    assert f"'{data}/x' changed while it was being copied" in person.status(run)["reason"]
    assert left(person) == ""


def test_a_node_that_dies_while_it_copies(
    person: Person,
    data: Path,
    faults: Faults,  # noqa: F811
) -> None:
    with waiting(person):
        run = submit(person, data, "--max-restarts", "0", *TWO_NODES)
        wait_until(lambda: "staging data on 1 node" in person.status(run)["reason"])
        with faults.cut("n2"):
            person.hpctf("wait", run, check=False)
            status = person.status(run)
            assert status["state"] == "Failed" and "a node failed" in status["reason"]
            assert person.hpctf("logs", run, "--role", "worker").stdout == ""
    wait_until(lambda: person.jobs() == [])
    wait_until(lambda: left(person) == "")
