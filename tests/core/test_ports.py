"""Ports are claimed on a host, and agreed on by a group through the run folder."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from hpctf.cluster_spec import Ports
from hpctf.errors import ClusterSpecError, HpctfError
from hpctf.files import append_record, read_records
from hpctf.node import ports
from hpctf.node.claims import Claim, Taken, claim
from hpctf.node.identity import Identity

from .environments import HET_STEP, LOCAL, STEP, tasks_on

FIRST = 22000 + os.getpid() % 500 * 16
"""First of 16 ports that no other test process, side by side, uses."""

CLAIMER = """
import sys, time
from hpctf.node.claims import claim
held = claim(int(sys.argv[1]), "77")
print("claimed", flush=True)
time.sleep(600)
"""


@pytest.fixture
def elsewhere() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts Python code in another process, and returns once it has said something."""
    started: list[subprocess.Popen[str]] = []

    def start(code: str, *words: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-c", code, *map(str, words)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline()
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def holder_of(port: int) -> tuple[str, bool]:
    """Return who has a port, as a claim is told."""
    with pytest.raises(Taken) as refusal:
        claim(port, "1")
    return refusal.value.holder, refusal.value.by_hpctf


def is_free(port: int) -> bool:
    try:
        claim(port, "1").let_go()
    except Taken:
        return False
    return True


# -- one port of one host --------------------------------------------------------------------


def test_a_claimed_port_is_nobody_elses_until_it_is_let_go() -> None:
    held = claim(FIRST, "41")
    assert holder_of(FIRST) == (f"job 41 of {user()}", True)
    assert is_free(FIRST + 1)
    held.let_go()
    assert is_free(FIRST)


def user() -> str:
    import pwd

    return pwd.getpwuid(os.getuid()).pw_name


def test_one_of_many_that_want_a_port_at_once_gets_it() -> None:
    barrier = threading.Barrier(8)

    def want() -> Claim | None:
        barrier.wait()
        try:
            return claim(FIRST, "1")
        except Taken:
            return None

    for _ in range(50):
        with ThreadPoolExecutor(8) as pool:
            won = [one for one in pool.map(lambda _: want(), range(8)) if one]
        assert len(won) == 1
        won[0].let_go()


def test_a_claim_ends_with_its_process_however_that_ends(
    elsewhere: Callable[..., subprocess.Popen[str]],
) -> None:
    holder = elsewhere(CLAIMER, FIRST)
    assert holder_of(FIRST) == (f"job 77 of {user()}", True)
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    assert is_free(FIRST)


def test_a_process_started_meanwhile_does_not_keep_the_claim() -> None:
    held = claim(FIRST, "41")
    with subprocess.Popen(["sleep", "600"], close_fds=False) as child:
        held.let_go()
        assert is_free(FIRST)
        child.kill()


@pytest.mark.parametrize("family", [socket.AF_INET, socket.AF_INET6], ids=["ipv4", "ipv6"])
@pytest.mark.parametrize("address", ["any", "loopback"])
@pytest.mark.parametrize("options", [[], ["SO_REUSEADDR"], ["SO_REUSEADDR", "SO_REUSEPORT"]])
def test_a_port_on_which_any_program_listens_is_taken(
    family: socket.AddressFamily, address: str, options: list[str]
) -> None:
    loopback = "127.0.0.1" if family == socket.AF_INET else "::1"
    with socket.socket(family) as server:
        for option in options:
            server.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
        server.bind(("" if address == "any" else loopback, FIRST))
        server.listen()
        assert holder_of(FIRST) == (f"a program of {user()}", False)
    assert is_free(FIRST)


def test_a_port_that_is_bound_only_is_taken_too() -> None:
    with socket.socket() as bound:
        bound.bind(("", FIRST))
        assert holder_of(FIRST) == ("a program that does not listen yet", False)


def test_a_port_that_one_may_not_bind_says_so() -> None:
    code = (
        "import os\n"
        "from hpctf.node.claims import claim, Taken\n"
        "os.setuid(65534)\n"
        "try: claim(80, '1')\n"
        "except Taken as error: print(error.holder)"
    )
    limit = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    if os.getuid() != 0 or limit <= 80:
        pytest.skip("needs root, and a port below ip_unprivileged_port_start")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd="/")
    assert done.stdout.strip() == "the system: Permission denied", done.stderr


def test_connections_that_are_still_closing_are_no_obstacle() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        server.accept()[0].close()  # who closes first keeps the port in TIME_WAIT
        assert client.recv(1) == b""
        client.close()
    assert f":{port:04X} " in Path("/proc/net/tcp").read_text()
    assert is_free(port)


@pytest.mark.parametrize("options", [[], ["SO_REUSEADDR"], ["SO_REUSEPORT"]], ids=str)
@pytest.mark.parametrize("address", ["0.0.0.0", "::"])
def test_any_server_can_listen_on_a_port_that_is_claimed_for_it(
    options: list[str], address: str
) -> None:
    held = claim(FIRST, "41")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family) as server:
        for option in options:
            server.setsockopt(socket.SOL_SOCKET, getattr(socket, option), 1)
        server.bind((address, FIRST))
        server.listen()
        assert holder_of(FIRST)[1]
    held.let_go()


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
        found = [one.result(30) for one in [self.start(rank) for rank in range(self.size)]]
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
    began = time.monotonic()
    assert Ranks(tmp_path, 1).settle() == [FIRST]
    assert time.monotonic() - began < 0.1


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
                one.result(30)
            assert str(refusal.value) == (
                f"no block of ports in {FIRST}-{FIRST + 3} is free on every host (tries: 2): port "
                f"{FIRST + 3} of here, worker-1's, is held by a program of {user()}\n"
                "  Submit again once they are free, or give the site another range (ports:)."
            )


def test_no_more_than_fifty_blocks_are_tried(tmp_path: Path) -> None:
    taken = [socket.create_server(("127.0.0.1", 41000 + number)) for number in range(60)]
    try:
        with pytest.raises(HpctfError, match="tries: 50"):
            Ranks(tmp_path, 1, ports=[41000, 41059]).start(0).result(60)
    finally:
        for server in taken:
            server.close()


def test_a_rank_that_answers_late_is_waited_for(tmp_path: Path) -> None:
    ranks = Ranks(tmp_path, 3)
    first = [ranks.start(rank) for rank in (0, 2)]
    time.sleep(0.3)
    assert not any(one.done() for one in first)
    began = time.monotonic()
    clusters = [one.result(10)["cluster"] for one in [*first, ranks.start(1)]]
    assert time.monotonic() - began < 0.2
    assert clusters == [clusters[0]] * 3


def test_a_rank_that_never_answers_is_named_in_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ports, "PATIENCE_S", 0.3)
    ranks = Ranks(tmp_path, 3)
    first, last = ranks.start(0), ranks.start(2)
    with pytest.raises(HpctfError, match="worker-1 has not said whether its port is free"):
        first.result(10)
    with pytest.raises(HpctfError, match="worker-0 has not said which ports the group takes"):
        last.result(10)


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
    ranks.start(1).result(10)
    assert first.result(10)["cluster"]["worker"][0] == f"localhost:{FIRST}"


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
        "from tests.core.test_ports import Ranks, Path, ports, Identity, LOCAL\n"
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
        began = time.monotonic()
        waiting.terminate()
        assert waiting.wait(10) == 5
        assert time.monotonic() - began < 1


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
        clusters = [one.result(30)["cluster"] for one in ranks]
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
