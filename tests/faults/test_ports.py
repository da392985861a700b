"""Ports that others have, on the hosts of a run: the group moves, or says who has them."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from hpctf.cluster_spec import Ports
from hpctf.common.files import read_records
from tests.conftest import TEST_USER, Person
from tests.faults.conftest import Clock
from tests.faults.inject import Faults
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slurm

FIRST = 30000 + os.getpid() % 160 * 16
"""First of 16 ports that nobody else on the cluster uses, nor a test beside this one."""

SERVE = """
import json, os, socket, sys, time
config = json.loads(os.environ["TF_CONFIG"])
role, index = config["task"].values()
address = config["cluster"][role][index]
server = socket.socket()
server.bind(("", int(address.rpartition(":")[2])))
server.listen()
with open(f"outputs/{role}-{index}.part", "w") as stream:
    json.dump({"cluster": config["cluster"], "from": time.time()}, stream)
os.rename(f"outputs/{role}-{index}.part", f"outputs/{role}-{index}.json")
time.sleep(float(sys.argv[1]))
tasks = [(role, index) for role, hosts in config["cluster"].items() for index in range(len(hosts))]
while not all(os.path.exists(f"outputs/{role}-{index}.json") for role, index in tasks):
    time.sleep(0.05)  # the end of the workers is that of the others
with open(f"outputs/{role}-{index}.until", "w") as stream:
    stream.write(str(time.time()))
"""
"""Holds the port that TF_CONFIG gives it for some seconds, as plainly as a server can."""

HOLD = """
import os, socket, sys, time
os.setuid(int(sys.argv[1]))
held = []
for port in sys.argv[3:]:
    one = socket.socket()
    one.bind(("", int(port)))
    if sys.argv[2] == "listens":
        one.listen()
    held.append(one)
print("held", flush=True)
time.sleep(600)
"""


@contextmanager
def held(node: str, *ports: int, how: str = "listens", uid: int = 0) -> Iterator[None]:
    """Let a program that knows nothing of hpctf hold ports of a node."""
    words = [str(uid), how, *map(str, ports)]
    enter = ["nsenter", f"--net=/run/netns/hpctf-{node}", "python3", "-c", HOLD, *words]
    with subprocess.Popen(enter, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline(), "the ports are not free to hold"
            yield
        finally:
            holder.kill()


def site(person: Person, ports: int, **more: str) -> Path:
    """Write a site with so many ports."""
    extra = "".join(f", {key}: {value}" for key, value in more.items())
    text = f"name: narrow\nports: {{first: {FIRST}, last: {FIRST + ports - 1}{extra}}}\n"
    return person.write(f"site-{ports}.yaml", text)


def submit_later(person: Person, *words: str | Path, seconds: float = 0) -> tuple[str, int]:
    """Submit SERVE to begin when `begin` says so; return the run and its job's id."""
    script = person.write("proj/serve.py", SERVE)
    later = ["--sbatch", "begin=now+1hour", *words, script, "--", str(seconds)]
    run = person.hpctf("submit", *later).stdout.strip()
    return run, job_of(person, run)


def job_of(person: Person, run: str) -> int:
    return int(json.loads((person.folder(run) / "run.json").read_text())["job_id"])


def plan_of(person: Person, run: str) -> dict[str, Any]:
    plan: dict[str, Any] = json.loads((person.folder(run) / "plan.json").read_text())
    return plan


def begin(person: Person, *jobs: int) -> None:
    """Let jobs begin now, together; a heterogeneous one with all its components."""
    for job in jobs:
        person.cluster.run("scontrol", "update", f"JobId={job}", "StartTime=now")


def cluster_of(person: Person, run: str) -> dict[str, list[str]]:
    """Wait for a run, and return the cluster on which all of its ranks agree."""
    person.hpctf("wait", run)
    said = list((person.folder(run) / "outputs").glob("*.json"))
    assert len(said) == sum(one["tasks"] for one in plan_of(person, run)["components"])
    clusters = [json.loads(path.read_text())["cluster"] for path in said]
    assert clusters == [clusters[0]] * len(clusters)
    found: dict[str, list[str]] = clusters[0]
    return found


def ports_of(cluster: dict[str, list[str]]) -> set[int]:
    return {int(one.rpartition(":")[2]) for role in cluster.values() for one in role}


NOBODY = 65534

HOLDERS = {
    "listening": {},
    "bound-only": {"how": "binds"},
    "another-user": {"uid": NOBODY},
}


@pytest.mark.fault(
    "a port is taken on the last rank's host only", "the whole group moves to other ports"
)
@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
def test_a_foreign_program_makes_the_whole_group_move(
    person: Person, clock: Clock, holder: dict[str, object]
) -> None:
    words = ["--backend", "collective", "--nodes", "2", "--procs-per-node", "2"]
    narrow = site(person, 8)
    run, job = submit_later(person, "--site", narrow, *words, "--sbatch", "nodelist=n1,n2")
    ports = Ports(FIRST, FIRST + 7)
    with held("n2", ports.block(job, 2) + 1, **holder):  # type: ignore[arg-type]
        begin(person, job)
        clock.injected()
        found = cluster_of(person, run)
        clock.right()
    second = ports.block(job, 2, 1)
    assert found == {
        "worker": [f"{host}:{port}" for host in ("n1", "n2") for port in (second, second + 1)]
    }


@pytest.mark.fault(
    "ports of parameter servers and workers are taken", "the whole group moves to other ports"
)
@pytest.mark.parametrize("placement", ["hetjob", "shared"])
def test_parameter_servers_move_too(person: Person, clock: Clock, placement: str) -> None:
    words = ["--backend", "ps", "--workers", "2", "--ps", "1", "--ps-mode", "script"]
    narrow = site(person, 12)
    run, job = submit_later(person, "--site", narrow, *words, "--ps-placement", placement)
    size = max(-(-one["tasks"] // one["nodes"]) for one in plan_of(person, run)["components"])
    ports = Ports(FIRST, FIRST + 11)
    first = ports.block(job, size)
    with held("n1", first), held("n2", first), held("n3", first), held("n4", first):
        begin(person, job)
        clock.injected()
        found = cluster_of(person, run)
        clock.right()
    second = ports.block(job, size, 1)
    assert ports_of(found) <= set(range(second, second + size))
    assert {role: len(addresses) for role, addresses in found.items()} == {
        "chief": 1,
        "worker": 2,
        "ps": 1,
    }


@pytest.mark.fault("every port of the site's range is taken", "says which, where and by whom")
def test_a_range_without_a_free_block_is_told_before_training_starts(
    person: Person, clock: Clock
) -> None:
    words = ["--backend", "collective", "--nodes", "2", "--sbatch", "nodelist=n1,n2"]
    script = person.write("proj/ok.py", "print('trained')\n")
    with held("n2", FIRST, FIRST + 1, uid=NOBODY):
        clock.injected()
        narrow = site(person, 2)
        done = person.hpctf("submit", "--site", narrow, *words, "--wait", script, check=False)
        clock.right()
    assert done.returncode == 1
    assert f"no block of ports in {FIRST}-{FIRST + 1} is free on every host (tries: 2)" in (
        done.stderr
    )
    assert "of n2, worker-1's, is held by a program of nobody" in done.stderr
    assert "ports:" in done.stderr
    assert "trained" not in person.hpctf("logs", "@last").stdout


@pytest.mark.fault("another run has the only port", "says which job has it")
def test_a_port_of_another_run_names_its_job(person: Person, clock: Clock) -> None:
    words = ["--backend", "collective", "--sbatch", "nodelist=n1", "--site", site(person, 1)]
    first, job = submit_later(person, *words, seconds=30)
    begin(person, job)
    outputs = person.folder(first) / "outputs"
    wait_until((outputs / "worker-0.json").exists)
    clock.injected()
    script = person.write("proj/serve.py", SERVE)
    done = person.hpctf("submit", *words, "--wait", script, "--", "0", check=False)
    clock.right()
    assert done.returncode == 1
    assert f"port {FIRST} of n1, worker-0's, is held by job {job} of {TEST_USER}" in done.stderr
    person.hpctf("cancel", first)
    person.hpctf("wait", first, check=False)


@pytest.mark.fault("two runs start together and want the same ports", "each gets its own ports")
@pytest.mark.parametrize(
    ("room", "sizes"), [(2, (1, 1)), (4, (1, 2)), (8, (2, 2))], ids=["2", "4", "8"]
)
def test_runs_that_start_together_never_share_a_port(
    person: Person, clock: Clock, room: int, sizes: tuple[int, int]
) -> None:
    ports = Ports(FIRST, FIRST + room - 1)
    for _ in range(3):
        runs = [submit_pair(person, ports, sizes[0])]
        while len(runs) < 2:
            pass_ids_over(person, ports, runs[0][1], sizes)
            run, job = submit_pair(person, ports, sizes[1])
            if wanted(ports, job, sizes[1]) & wanted(ports, runs[0][1], sizes[0]):
                runs.append((run, job))
            else:
                person.hpctf("cancel", run)
        clock.injected()
        begin(person, *(job for _, job in runs))
        taken = [cluster_of(person, run)["worker"] for run, _ in runs]
        clock.right()
        if ran_side_by_side(person, *(run for run, _ in runs)):
            assert not set(taken[0]) & set(taken[1])


def pass_ids_over(person: Person, ports: Ports, job: int, sizes: tuple[int, int]) -> None:
    """Use up job ids until the next one's ports are those of a job, if nobody else submits."""
    taken, other = wanted(ports, job, sizes[0]), job + 1
    while not wanted(ports, other, sizes[1]) & taken:
        held = ["sbatch", "--parsable", "--hold", "--output=/dev/null", "--wrap=true"]
        used = int(person.cluster.run(*held, user=person.user).stdout)
        person.cluster.run("scancel", str(used))
        other = used + 1


def submit_pair(person: Person, ports: Ports, size: int) -> tuple[str, int]:
    """Submit a run with so many workers on each of two nodes."""
    narrow = site(person, ports.last - ports.first + 1)
    words = ["--backend", "collective", "--nodes", "2", "--procs-per-node", str(size)]
    return submit_later(person, "--site", narrow, *words, "--sbatch", "nodelist=n1,n2", seconds=2)


def wanted(ports: Ports, job: int, size: int) -> set[int]:
    """Return the ports that a job tries first."""
    first = ports.block(job, size)
    return set(range(first, first + size))


def ran_side_by_side(person: Person, one: str, other: str) -> bool:
    """Whether two runs held their ports at the same time; Slurm may have started them apart."""
    spans = []
    for run in (one, other):
        outputs = person.folder(run) / "outputs"
        began = max(json.loads(path.read_text())["from"] for path in outputs.glob("*.json"))
        spans.append((began, min(float(path.read_text()) for path in outputs.glob("*.until"))))
    return max(began for began, _ in spans) < min(until for _, until in spans)


RESERVED = range(14000, 15000)
"""MpiParams of the test cluster."""


@pytest.mark.parametrize(
    "words",
    [
        ["--backend", "collective", "--nodes", "2", "--procs-per-node", "2"],
        ["--backend", "ps", "--workers", "3", "--ps", "1", "--ps-mode", "script"],
        ["--backend", "ps", "--workers", "2", "--ps-mode", "script", "--ps-placement", "shared"],
    ],
    ids=["collective", "hetjob", "shared"],
)
def test_a_site_can_let_slurm_reserve_the_ports(person: Person, words: list[str]) -> None:
    reserving = site(person, 8, reserved="true")
    run, job = submit_later(person, "--site", reserving, *words)
    begin(person, job)
    assert ports_of(cluster_of(person, run)) <= set(RESERVED)
    state = person.folder(run) / "state/ports.jsonl"
    assert [(record["try"], record["go"]) for record in read_records(state)] == [(0, True)]


@pytest.mark.fault("a port that Slurm reserved is taken", "the group moves to the site's range")
def test_a_taken_reserved_port_moves_the_group_to_the_sites_range(
    person: Person, clock: Clock
) -> None:
    words = ["--backend", "collective", "--nodes", "2", "--sbatch", "nodelist=n3,n4"]
    reserving = site(person, 8, reserved="true")
    run, job = submit_later(person, "--site", reserving, *words)
    with held("n4", *RESERVED[:500]), held("n4", *RESERVED[500:]):
        begin(person, job)
        clock.injected()
        found = cluster_of(person, run)
        clock.right()
    first = Ports(FIRST, FIRST + 7).block(job, 1)
    assert found == {"worker": [f"n3:{first}", f"n4:{first}"]}


@pytest.mark.fault(
    "the site reserves ports, but Slurm has none to reserve", "fails with Slurm's message"
)
def test_a_slurm_without_ports_to_reserve(person: Person, faults: Faults, clock: Clock) -> None:
    reserving = site(person, 8, reserved="true")
    script = person.write("proj/ok.py", "print('trained')\n")
    words = ["--site", reserving, "--backend", "collective", "--wait", script]
    with faults.settings(MpiParams="none"):
        clock.injected()
        done = person.hpctf("submit", *words, check=False)
        clock.right()
    assert done.returncode == 1
    assert "Requires more ports than can be reserved" in done.stderr
    assert "trained" not in person.hpctf("logs", "@last").stdout


def site_with_a_late_rank(person: Person, seconds: float) -> Path:
    """Write a site on which rank 1 of a step starts so much later than the others."""
    prolog = person.write("bin/prolog", f'#!/bin/sh\n[ "$SLURM_PROCID" != 1 ] || sleep {seconds}\n')
    srun = person.write("bin/srun", f'#!/bin/sh\nexec /usr/bin/srun --task-prolog={prolog} "$@"\n')
    prolog.chmod(0o755)
    srun.chmod(0o755)
    return person.write(
        "late.yaml",
        f"name: late\nprologue: ['PATH={srun.parent}:$PATH']\nports: "
        f"{{first: {FIRST}, last: {FIRST + 7}}}\n",
    )


@pytest.mark.fault("a rank starts 3 s later than the others", "they wait for it")
def test_a_rank_that_starts_late_is_waited_for(person: Person, clock: Clock) -> None:
    words = ["--site", site_with_a_late_rank(person, 3), "--backend", "collective", "--nodes", "2"]
    run, job = submit_later(person, *words)
    begin(person, job)
    clock.injected()
    found = cluster_of(person, run)
    clock.right()
    assert ports_of(found) == {Ports(FIRST, FIRST + 7).block(job, 1)}


@pytest.mark.fault(
    "a run is cancelled while its ranks wait for one that hangs", "all end immediately"
)
def test_waiting_for_the_others_ends_when_the_run_is_cancelled(
    person: Person, clock: Clock
) -> None:
    words = ["--site", site_with_a_late_rank(person, 600), "--backend", "collective"]
    run, job = submit_later(person, *words, "--nodes", "3")
    begin(person, job)
    state = person.folder(run) / "state"
    wait_until(lambda: all(list(read_records(state / f"worker-{rank}.jsonl")) for rank in (0, 2)))
    clock.injected()
    person.hpctf("cancel", run)
    person.hpctf("wait", run, check=False)
    clock.right()
    assert person.status(run)["state"] == "Canceled"
    for rank in (0, 2):
        ended = list(read_records(state / f"worker-{rank}.jsonl"))[-1]
        assert (ended["event"], ended["asked"]) == ("ended", "SIGTERM")


@pytest.mark.fault("a port of a local run is taken", "the whole group moves to other ports")
def test_local_runs_move_too(person: Person, clock: Clock) -> None:
    text = f"name: here\nscheduler: local\nports: {{first: {FIRST}, last: {FIRST + 3}}}\n"
    script = person.write("proj/serve.py", SERVE)
    words = ["--site", person.write("here.yaml", text), "--backend", "collective"]
    blocker = ["python3", "-c", HOLD, "0", "listens", str(FIRST + 1)]
    with subprocess.Popen(blocker, stdout=subprocess.PIPE) as holder:
        try:
            assert holder.stdout is not None
            holder.stdout.readline()
            clock.injected()
            run = person.hpctf("submit", *words, "--workers", "2", script, "--", "0").stdout.strip()
            found = cluster_of(person, run)
            clock.right()
        finally:
            holder.kill()
    assert found == {"worker": [f"localhost:{FIRST + 2}", f"localhost:{FIRST + 3}"]}


CONNECT = """
import os
import tensorflow as tf
resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
strategy = tf.distribute.ParameterServerStrategy(resolver)
print("connected", sorted(resolver.cluster_spec().as_dict()))
"""


@pytest.mark.tensorflow
@pytest.mark.fault("a port of TensorFlow's servers is taken", "they start on the next block")
def test_tensorflows_own_servers_start_on_the_next_block(
    person: Person, clock: Clock, training_python: str
) -> None:
    script = person.write("proj/connect.py", CONNECT)
    words = ["--backend", "ps", "--workers", "1", "--ps", "1", "--python", training_python]
    words += ["--sbatch", "begin=now+1hour", "--site", str(site(person, 8))]
    run = person.hpctf("submit", *words, script).stdout.strip()
    job = job_of(person, run)
    size = max(-(-one["tasks"] // one["nodes"]) for one in plan_of(person, run)["components"])
    first = Ports(FIRST, FIRST + 7).block(job, size)
    with held("n1", first), held("n2", first), held("n3", first), held("n4", first):
        begin(person, job)
        clock.injected()
        person.hpctf("wait", run)
        clock.right()
    assert "connected ['chief', 'ps', 'worker']" in person.hpctf("logs", run).stdout
