"""Roles, ports and TF_CONFIG from the places of tasks."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import hpctf
from hpctf.cluster_spec import (
    MAX_ENVIRONMENT_STRING,
    Ports,
    cluster,
    role_of,
    tf_config,
)
from hpctf.errors import ClusterSpecError
from tests.support.job_environments import (
    HET_STEP,
    LOCAL,
    PS_ROLES,
    STEP,
    tasks_on,
)

SOURCE = str(Path(hpctf.__file__).resolve().parents[1])


@given(job_id=st.integers(1, 10**9), size=st.integers(1, 4000), attempt=st.integers(0, 50))
def test_blocks_stay_within_the_ports_and_never_overlap_in_part(
    job_id: int, size: int, attempt: int
) -> None:
    ports = Ports()
    first = ports.block(job_id, size, attempt)
    assert ports.first <= first <= first + size - 1 <= ports.last
    assert (first - ports.first) % size == 0
    assert first == ports.block(str(job_id), size, attempt)
    assert ports.block(job_id, size) != ports.block(job_id + 1, size)
    assert first != ports.block(job_id, size, attempt + 1)


@given(job_id=st.integers(1, 10**9), size=st.integers(1, 40), blocks=st.integers(1, 200))
def test_attempts_visit_every_block_once_before_the_first_again(
    job_id: int, size: int, blocks: int
) -> None:
    ports = Ports(20000, 20000 + size * blocks - 1)
    assert ports.blocks(size) == blocks
    visited = [ports.block(job_id, size, attempt) for attempt in range(blocks + 1)]
    assert sorted(visited[:-1]) == list(range(20000, 20000 + size * blocks, size))
    assert visited[-1] == visited[0]


def test_jobs_that_begin_on_one_block_part_on_the_next() -> None:
    ports = Ports(20000, 20006)
    jobs = [5 + 7 * turn for turn in range(6)]
    assert {ports.block(job, 1) for job in jobs} == {20005}
    assert len({ports.block(job, 1, 1) for job in jobs}) == 6


def test_blocks_wrap_round_at_the_end_of_the_ports() -> None:
    ports = Ports(20000, 20009)
    assert [ports.block(job, 4) for job in range(5)] == [20000, 20004, 20000, 20004, 20000]
    assert [ports.block(1, 4, attempt) for attempt in range(3)] == [20004, 20000, 20004]


def test_too_few_ports_are_refused_with_the_numbers() -> None:
    with pytest.raises(ClusterSpecError, match=r"ports 20000-20003 are 4, but one host has 5"):
        Ports(20000, 20003).block(1, 5)
    assert Ports(20000, 20003).block(1, 4) == 20000


@pytest.mark.parametrize("ports", [Ports(0, 9), Ports(30, 20), Ports(65000, 65536)])
def test_a_range_that_is_none_is_refused(ports: Ports) -> None:
    with pytest.raises(ClusterSpecError, match=f"ports {ports.first}-{ports.last} are no range"):
        ports.block(1, 1)


@pytest.mark.parametrize("job_id", ["", "4+0", "33_7", "DEBUG", "-1", "٣"])
def test_a_job_id_that_is_no_number_is_refused(job_id: str) -> None:
    with pytest.raises(ClusterSpecError, match=f"job id is '{re.escape(job_id)}'"):
        Ports().block(job_id, 1)


# -- clusters --------------------------------------------------------------------------------


def test_roles_take_ranks_in_order_and_tasks_of_a_host_never_share_a_port() -> None:
    tasks = tasks_on("n1", "n1", "n2", "n2", "n1")
    assert cluster({"chief": 1, "worker": 3, "ps": 1}, tasks, 20000) == {
        "chief": ["n1:20000"],
        "worker": ["n1:20001", "n2:20000", "n2:20001"],
        "ps": ["n1:20002"],
    }


def test_every_task_may_be_given_its_own_port() -> None:
    addresses = cluster({"worker": 2, "ps": 1}, tasks_on("n1", "n2", "n1"), [14001, 14004, 14003])
    assert addresses == {"worker": ["n1:14001", "n2:14004"], "ps": ["n1:14003"]}


def test_roles_may_be_given_as_pairs_and_empty_ones_are_left_out() -> None:
    roles = [("ps", 1), ("chief", 0), ("worker", 1)]
    assert list(cluster(roles, tasks_on("a", "b"), 1)) == ["ps", "worker"]
    assert role_of(roles, 1) == ("worker", 0)


@given(ps=st.integers(0, 30), workers=st.integers(0, 30), hosts=st.integers(1, 7))
def test_every_task_has_one_address_and_finds_it(ps: int, workers: int, hosts: int) -> None:
    roles = [("ps", ps), ("worker", workers)]
    tasks = tasks_on(*(f"n{rank % hosts}" for rank in range(ps + workers)))
    spec = cluster(roles, tasks, 20000)
    addresses = [address for role in spec.values() for address in role]
    assert len(set(addresses)) == len(tasks)
    for task in tasks:
        role, index = role_of(roles, task.rank)
        assert spec[role][index].startswith(f"{task.host}:")


@pytest.mark.parametrize(
    ("roles", "says"),
    [
        ({"worker": 3}, "roles worker=3 are 3 tasks, but the job has 2"),
        ({}, "roles (none) are 0 tasks, but the job has 2"),
        ({"chief": 2}, "role 'chief' has 2 tasks; TensorFlow allows 0 or 1"),
        ({"worker": 3, "ps": -1}, "role 'ps' has -1 tasks; TensorFlow allows 0 or more"),
        ([("worker", 1), ("worker", 1)], "role 'worker' is given 2 times"),
        ({"wroker": 2}, "Did you mean 'worker'?"),
    ],
)
def test_roles_that_do_not_fit_are_refused(roles: dict[str, int], says: str) -> None:
    with pytest.raises(ClusterSpecError) as refusal:
        cluster(roles, tasks_on("a", "b"), 1)
    assert says in str(refusal.value)


def test_tasks_out_of_order_are_refused() -> None:
    with pytest.raises(ClusterSpecError, match="number 0 has rank 1"):
        cluster({"worker": 2}, tasks_on("a", "b")[::-1], 1)


@pytest.mark.parametrize("rank", [5, -1])
def test_a_rank_beyond_the_roles_is_refused(rank: int) -> None:
    with pytest.raises(ClusterSpecError, match=f"rank {rank} has no role: .* for ranks 0 to 4"):
        role_of(PS_ROLES, rank)


# -- TF_CONFIG -------------------------------------------------------------------------------


def test_tf_config_of_a_task_of_a_step() -> None:
    # 3 tasks on the fuller host: job 33 has the ports from 20000 + 33 * 3
    assert tf_config(PS_ROLES, STEP) == (
        '{"cluster":{"chief":["n1:20099"],"worker":["n1:20100","n1:20101","n2:20099"],'
        '"ps":["n2:20100"]},"task":{"type":"worker","index":2},"environment":"cloud"}'
    )


def test_all_tasks_of_a_het_job_agree_on_the_cluster() -> None:
    roles = [("ps", 2), ("worker", 4)]
    places = [("n3", "0"), ("n3", "1"), ("n1", "0"), ("n1", "1"), ("n1", "2"), ("n2", "0")]
    clusters = []
    for rank, (host, local_rank) in enumerate(places):
        own = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": local_rank, "SLURMD_NODENAME": host}
        config = json.loads(tf_config(roles, {**HET_STEP, **own}))
        role, index = config["task"].values()
        assert config["cluster"][role][index].startswith(f"{host}:")
        clusters.append(config["cluster"])
    assert clusters == [clusters[0]] * 6


def test_array_tasks_have_ports_of_their_own() -> None:
    array = {**STEP, "SLURM_ARRAY_JOB_ID": "57", "SLURM_ARRAY_TASK_ID": "7"}
    configs = {tf_config(PS_ROLES, {**array, "SLURM_JOB_ID": job_id}) for job_id in ("57", "58")}
    assert len(configs) == 2


def test_a_shared_step_gives_roles_by_rank_on_the_same_hosts() -> None:
    shared = {**STEP, "SLURM_STEP_NUM_TASKS": "4", "SLURM_STEP_TASKS_PER_NODE": "2(x2)"}
    shared = {**shared, "SLURM_DISTRIBUTION": "cyclic", "SLURM_LOCALID": "1"}
    config = json.loads(tf_config([("worker", 2), ("ps", 2)], shared))
    assert config["cluster"]["worker"] == ["n1:20066", "n2:20066"]
    assert config["cluster"]["ps"] == ["n1:20067", "n2:20067"]
    assert config["task"] == {"type": "ps", "index": 1}


def test_local_tasks_use_the_launchers_process_id_for_their_ports() -> None:
    config = json.loads(tf_config({"chief": 1, "worker": 2}, LOCAL))
    first = Ports().block(4711, 3)
    assert config["cluster"]["worker"] == [f"localhost:{first + 1}", f"localhost:{first + 2}"]
    assert config["task"] == {"type": "worker", "index": 0}


def test_everything_may_be_given_outside_a_job() -> None:
    text = tf_config(
        {"worker": 2},
        {},
        rank=1,
        tasks=tasks_on("a", "b"),
        ports=Ports(30000, 30001),
        job_id="8",
        attempt=1,
    )
    assert json.loads(text)["cluster"] == {"worker": ["a:30001", "b:30001"]}
    assert json.loads(text)["task"] == {"type": "worker", "index": 1}


def test_the_environment_is_this_process_own_unless_given(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith(("SLURM", "OMPI", "PMI"))]:
        monkeypatch.delenv(name)
    for name, value in STEP.items():
        monkeypatch.setenv(name, value)
    assert tf_config(PS_ROLES) == tf_config(PS_ROLES, STEP)


def test_without_a_job_id_there_are_no_ports() -> None:
    with pytest.raises(ClusterSpecError, match="SLURM_JOB_ID is not set"):
        tf_config({"worker": 1}, {}, rank=0, tasks=tasks_on("a"))


def tf_config_of_size(size: int) -> str:
    """Return a TF_CONFIG whose ``TF_CONFIG=`` string is `size` bytes with its closing NUL."""

    def made(last_host: str) -> str:
        tasks = tasks_on(*(f"host{number:05}" for number in range(7000)), last_host)
        return tf_config({"worker": 7001}, {}, rank=0, tasks=tasks, job_id=1)

    return made("x" * (1 + size - len("TF_CONFIG=") - len(made("x")) - 1))


@pytest.mark.parametrize("size", [MAX_ENVIRONMENT_STRING - 1, MAX_ENVIRONMENT_STRING])
def test_the_largest_tf_config_still_reaches_a_process(size: int) -> None:
    text = tf_config_of_size(size)
    assert len(f"TF_CONFIG={text}\0") == size
    script = "import os; print(len(os.environ['TF_CONFIG']))"
    command = [sys.executable, "-c", script]
    assert int(subprocess.check_output(command, env={"TF_CONFIG": text})) == len(text)


def test_a_tf_config_one_byte_larger_is_refused_as_linux_would() -> None:
    with pytest.raises(ClusterSpecError) as refusal:
        tf_config_of_size(MAX_ENVIRONMENT_STRING + 1)
    assert "TF_CONFIG of 7,001 tasks is 131,073 bytes; Linux takes at most 131,072" in str(
        refusal.value
    )
    with pytest.raises(OSError, match="too long"):
        text = "x" * (MAX_ENVIRONMENT_STRING + 1 - len("TF_CONFIG=\0"))
        subprocess.run([sys.executable, "-c", ""], env={"TF_CONFIG": text})


# -- the command -----------------------------------------------------------------------------


def command(*arguments: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "hpctf.cluster_spec", *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": SOURCE, **env},
        capture_output=True,
        text=True,
    )


def test_the_command_prints_this_tasks_tf_config() -> None:
    done = command("--role", "chief=1", "--role", "worker=3", "--role", "ps=1", env=STEP)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == tf_config(PS_ROLES, STEP) + "\n"


def test_the_command_takes_ports_attempt_and_rank() -> None:
    options = ["--ports", "30000-30005", "--attempt", "1", "--rank", "0"]
    done = command("--role", "worker=5", *options, env=STEP)
    config = json.loads(done.stdout)
    assert config["cluster"]["worker"][0] == "n1:30000"
    assert config["task"]["index"] == 0


@pytest.mark.parametrize(
    ("arguments", "env", "says"),
    [
        (["--role", "worker=2"], {}, "inside a Slurm job"),
        (["--role", "worker=2"], STEP, "roles worker=2 are 2 tasks, but the job has 5"),
        (["--role", "worker"], STEP, "'worker' is not NAME=COUNT"),
        (["--role", "worker=two"], STEP, "--role worker is 'two'"),
        (["--role", "worker=5", "--ports", "20000"], STEP, "'20000' is not FIRST-LAST"),
        (["--role", "worker=5", "--ports", "1-1"], STEP, "ports 1-1 are 1, but one host has 3"),
        (["--role", "worker=5"], {**STEP, "SLURM_STEP_NODELIST": "n[1"}, "cannot read 'n[1'"),
        ([], STEP, "--role"),
    ],
)
def test_the_command_refuses_with_one_message_and_exit_code_2(
    arguments: list[str], env: dict[str, str], says: str
) -> None:
    done = command(*arguments, env=env)
    assert done.returncode == 2
    assert done.stdout == ""
    assert says in done.stderr
    assert "Traceback" not in done.stderr


def test_importing_adds_none_of_the_slow_modules_to_a_rank() -> None:
    script = "import sys, hpctf.errors; before = set(sys.modules); import hpctf.cluster_spec; "
    script += "print(*set(sys.modules) - before)"
    loaded = subprocess.check_output([sys.executable, "-S", "-c", script], cwd=SOURCE, text=True)
    slow = {"argparse", "dataclasses", "difflib", "inspect", "json", "subprocess", "typing"}
    assert not slow & set(loaded.split())


def test_hosts_may_be_named_by_their_address_on_another_network() -> None:
    config = json.loads(tf_config({"worker": 5}, STEP, host_suffix="-ib"))
    hosts = [address.partition(":")[0] for address in config["cluster"]["worker"]]
    assert hosts == ["n1-ib", "n1-ib", "n1-ib", "n2-ib", "n2-ib"]
