"""Ports are agreed on by a group through the run folder, or are those that Slurm reserved."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hpctf.cluster_spec import Ports
from hpctf.common.files import append_record, read_records
from hpctf.errors import ClusterSpecError, HpctfError
from hpctf.node import ports
from hpctf.node.identity import Identity
from hpctf.node.port_claims import Claim
from tests.node.claiming import FIRST, is_free, user
from tests.support.job_environments import HET_STEP, LOCAL, STEP, tasks_on
from tests.support.waiting import HANGS_S

# -- a group ---------------------------------------------------------------------------------


class Ranks:
    """The ranks of a local job, each in a thread of its own."""

    def __init__(self, folder: Path, size: int, job_id: int = 0, **plan: Any) -> None:
        self.folder = folder
        self.job_id = job_id
        self.size = size
        self.env: dict[str, str] = {}
        self.plan = {
            "roles": [{"name": "worker", "count": size}],
            "components": [{"nodes": 1, "tasks": size}],
            "ports": [FIRST, FIRST + 15],
            "reserved_ports": False,
            "host_suffix": "",
            **plan,
        }
        (folder / "state").mkdir(exist_ok=True)
        self._pool = ThreadPoolExecutor(size)

    def state(self, name: str) -> Path:
        return self.folder / "state" / f"{name}.jsonl"

    def start(self, rank: int) -> Future[dict[str, Any]]:
        me = Identity(rank, rank, self.size, "worker", rank, "here")
        env = {
            **LOCAL,
            "SUBMITIT_LOCAL_GLOBALID": str(rank),
            "SUBMITIT_LOCAL_JOB_ID": str(self.job_id),
            "SUBMITIT_LOCAL_LOCALID": str(rank),
            "SUBMITIT_LOCAL_NTASKS": str(self.size),
            **self.env,
        }
        return self._pool.submit(
            lambda: json.loads(ports.settle(self.plan, me, env, str(self.folder)))
        )

    def settle(self) -> list[int]:
        """Start all, and return the ports of their common cluster."""
        found = [one.result(HANGS_S) for one in [self.start(rank) for rank in range(self.size)]]
        assert [config["task"]["index"] for config in found] == list(range(self.size))
        assert all(config["cluster"] == found[0]["cluster"] for config in found)
        return [int(one.rpartition(":")[2]) for one in found[0]["cluster"]["worker"]]


@pytest.fixture(autouse=True)
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Claim]]:
    """The claims of this process, which go when the test ends instead."""
    claims: list[Claim] = []
    monkeypatch.setattr(ports, "_held", claims)
    yield claims
    for one in claims:
        one.let_go()


def test_a_group_whose_ports_are_free_takes_the_jobs_first_block(tmp_path: Path) -> None:
    assert Ranks(tmp_path, 3, job_id=2).settle() == [FIRST + 6, FIRST + 7, FIRST + 8]
    assert all(not is_free(FIRST + 6 + rank) for rank in range(3))
    decisions = list(read_records(tmp_path / "state/ports.jsonl"))
    assert [(record["try"], record["go"]) for record in decisions] == [(0, True)]


def test_a_single_rank_waits_for_nobody(tmp_path: Path) -> None:
    assert Ranks(tmp_path, 1).settle() == [FIRST]


@pytest.mark.parametrize("place", [0, 1, 3])
def test_one_taken_port_moves_the_whole_group(tmp_path: Path, place: int) -> None:
    ranks = Ranks(tmp_path, 4)
    with socket.create_server(("", FIRST + place)):
        second = Ports(FIRST, FIRST + 15).block(0, 4, 1)
        assert ranks.settle() == [second + rank for rank in range(4)]
    free = [rank for rank in range(4) if is_free(FIRST + rank)]
    assert free == [0, 1, 2, 3], "what was claimed in vain has been let go"
    records = [list(read_records(ranks.state(f"worker-{rank}"))) for rank in range(4)]
    assert [record[0]["free"] for record in records] == [rank != place for rank in range(4)]
    assert records[place][0]["holder"] == f"a program of {user()}"


def test_every_rank_says_what_was_tried_when_nothing_is_left(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path, 2, ports=[FIRST, FIRST + 3])
    with socket.create_server(("", FIRST)), socket.create_server(("", FIRST + 3)):
        for one in [ranks.start(rank) for rank in range(2)]:
            with pytest.raises(HpctfError) as refusal:
                one.result(HANGS_S)
            assert str(refusal.value) == (
                f"no block of ports in {FIRST}-{FIRST + 3} is free on every host (tries: 2): port "
                f"{FIRST + 3} of here, worker-1's, is held by a program of {user()}\n"
                "  Submit again once they are free, or give the site another range (ports:)."
            )


def test_no_more_than_fifty_blocks_are_tried(tmp_path: Path) -> None:
    first = 21000  # below those that outgoing connections get
    taken = [socket.create_server(("127.0.0.1", first + number)) for number in range(60)]
    try:
        with pytest.raises(HpctfError, match="tries: 50"):
            Ranks(tmp_path, 1, ports=[first, first + 59]).start(0).result(HANGS_S)
    finally:
        for server in taken:
            server.close()


def test_a_rank_that_answers_late_is_waited_for(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path, 3)
    first = [ranks.start(rank) for rank in (0, 2)]
    time.sleep(0.3)
    assert not any(one.done() for one in first)
    clusters = [one.result(HANGS_S)["cluster"] for one in [*first, ranks.start(1)]]
    assert clusters == [clusters[0]] * 3


def test_a_rank_that_never_answers_is_named_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "PATIENCE_S", 0.3)
    ranks = Ranks(tmp_path, 3)
    first, last = ranks.start(0), ranks.start(2)
    with pytest.raises(HpctfError, match="worker-1 has not said whether its port is free"):
        first.result(HANGS_S)
    with pytest.raises(HpctfError, match="worker-0 has not said which ports the group takes"):
        last.result(HANGS_S)


@pytest.mark.parametrize(
    "start", [{"SLURM_RESTART_COUNT": "1"}, {"SLURM_STEP_ID": "3"}], ids=["requeue", "step"]
)
def test_what_an_earlier_start_left_does_not_count(
    tmp_path: Path, held: list[Claim], start: dict[str, str]
) -> None:
    ranks = Ranks(tmp_path, 2)
    with socket.create_server(("", FIRST + 1)):
        moved = ranks.settle()
    assert moved != [FIRST, FIRST + 1]
    while held:
        held.pop().let_go()
    ranks.env = start
    first = ranks.start(0)
    time.sleep(0.1)
    assert not first.done(), "the answer of the start before must not do for this one's"
    ranks.start(1).result(HANGS_S)
    assert first.result(HANGS_S)["cluster"]["worker"][0] == f"localhost:{FIRST}"


def test_lines_cut_short_and_other_records_are_passed_over(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path, 2)
    for name in ("worker-0", "worker-1", "ports"):
        append_record(ranks.state(name), {"event": "heartbeat", "time": 1.0})
        with ranks.state(name).open("a") as torn:
            torn.write('{"event":"ports","time":1.0,"attempt":0,"step":"","try":0,"go":fal')
    assert ranks.settle() == [FIRST, FIRST + 1]


def test_waiting_ends_when_a_signals_handler_raises(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "from tests.node.test_ports import Ranks, Path, ports, Identity, LOCAL\n"
        "class Asked(BaseException): pass\n"
        "def ask(*_): raise Asked\n"
        "signal.signal(signal.SIGTERM, ask)\n"
        "ranks = Ranks(Path(sys.argv[1]), 3)\n"
        "print('waits', flush=True)\n"
        "me = Identity(1, 1, 3, 'worker', 1, 'here')\n"
        "try: ports.settle(ranks.plan, me, LOCAL, sys.argv[1])\n"
        "except Asked: sys.exit(5)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as waiting:
        assert waiting.stdout is not None
        waiting.stdout.readline()
        while not list(read_records(tmp_path / "state/worker-1.jsonl")):
            time.sleep(0.01)
        waiting.terminate()
        assert waiting.wait(HANGS_S) == 5, "it would wait for ten minutes"


def test_groups_that_start_together_never_share_a_port(tmp_path: Path) -> None:
    """Four jobs of different sizes, whose blocks overlap, in a range that just holds them."""
    groups = []
    for job_id, size in enumerate([2, 3, 4, 3]):
        folder = tmp_path / str(job_id)
        folder.mkdir()
        groups.append(Ranks(folder, size, job_id))
    started = [[group.start(rank) for rank in range(group.size)] for group in groups]
    taken: list[str] = []
    for ranks in started:
        clusters = [one.result(HANGS_S)["cluster"] for one in ranks]
        assert clusters == [clusters[0]] * len(ranks)
        taken += clusters[0]["worker"]
    assert len(set(taken)) == 12


# -- ports that Slurm reserved ---------------------------------------------------------------

TWO_NODES = {"components": [{"nodes": 2, "tasks": 5}]}
TASKS = tasks_on("n1", "n1", "n1", "n2", "n2")


def test_reserved_ports_are_the_same_on_each_node_of_a_component() -> None:
    env = {"SLURM_STEP_RESV_PORTS": "14001-14002,14005"}
    assert ports.reserved_ports(TWO_NODES, TASKS, env) == [14001, 14002, 14005, 14001, 14002]


def test_reserved_ports_of_a_het_step_are_dealt_out_by_component() -> None:
    plan = {"components": [{"nodes": 1, "tasks": 2}, {"nodes": 2, "tasks": 3}]}
    tasks = tasks_on("n3", "n3", "n1", "n2", "n1")
    env = {"SLURM_STEP_RESV_PORTS": "14003-14006"}
    assert ports.reserved_ports(plan, tasks, env) == [14003, 14004, 14005, 14005, 14006]


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({}, "Slurm reserved none: SLURM_STEP_RESV_PORTS is not set"),
        ({"SLURM_STEP_RESV_PORTS": "14001-14002"}, "leaves 2 for n1, but it has 3 tasks or more"),
        ({"SLURM_STEP_RESV_PORTS": "(null)"}, "SLURM_STEP_RESV_PORTS is '(null)'"),
    ],
)
def test_reserved_ports_that_are_not_there_or_too_few_are_refused(
    env: dict[str, str], says: str
) -> None:
    with pytest.raises(ClusterSpecError) as refusal:
        ports.reserved_ports(TWO_NODES, TASKS, env)
    assert says in str(refusal.value)


def test_reserved_ports_are_tried_first_and_the_sites_own_range_after_them(tmp_path: Path) -> None:
    plan = {**TWO_NODES, "ports": [20000, 20009], "reserved_ports": True}
    env = {**STEP, "SLURM_STEP_RESV_PORTS": "14001-14003"}
    offers = ports.Offers(plan, TASKS, env)
    assert offers.ports(0) == [14001, 14002, 14003, 14001, 14002]
    first = Ports(20000, 20009).block(STEP["SLURM_JOB_ID"], 3)
    assert [offers.number, offers.ports(1)] == [4, first]
    plain = ports.Offers({**plan, "reserved_ports": False}, TASKS, HET_STEP)
    assert [plain.number, plain.ports(0)] == [3, Ports(20000, 20009).block(30, 3)]


def test_a_reserved_port_that_is_taken_moves_the_group(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path, 2, reserved_ports=True, ports=[FIRST, FIRST + 7])
    ranks.env = {"SLURM_STEP_RESV_PORTS": f"{FIRST + 10}-{FIRST + 11}"}
    with socket.create_server(("", FIRST + 11)):
        assert ranks.settle() == [FIRST, FIRST + 1]
