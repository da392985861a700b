"""The test cluster does what the other tests count on."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
import uuid
from pathlib import Path

import pytest

from tests.cluster.fixture import TEST_USER, Cluster, is_up
from tests.support.waiting import HANGS_S, wait_until

pytestmark = pytest.mark.slurm

HERE = Path(__file__).parent


def ranked_lines(labelled: str) -> list[str]:
    """Order the lines of ``srun --label`` by rank, without the label."""
    pairs = [line.split(": ", 1) for line in labelled.splitlines()]
    return [text for _, text in sorted(pairs, key=lambda pair: int(pair[0]))]


def wait_for_state(cluster: Cluster, job: str, state: str, timeout: float = HANGS_S) -> None:
    """Wait until ``scontrol`` shows a job in a state."""
    deadline = time.monotonic() + timeout
    while f"JobState={state} " not in (shown := cluster.run("scontrol", "show", "job", job).stdout):
        assert time.monotonic() < deadline, f"job {job} is not {state} after {timeout} s:\n{shown}"
        time.sleep(0.1)


def accounted_states(cluster: Cluster, job: str, timeout: float = HANGS_S) -> list[str]:
    """Return the states of a job and its steps, once the accounting has the job's end.

    Asks by ``--jobs``: a list without it shows a new job seconds later only.
    """
    deadline = time.monotonic() + timeout
    query = ("sacct", "--noheader", "--parsable2", "--format=State", "--jobs", job)
    while True:
        states = cluster.run(*query).stdout.splitlines()
        if states and states[0] not in ("PENDING", "RUNNING"):
            return states
        assert time.monotonic() < deadline, f"sacct shows {states} for job {job}"
        time.sleep(0.2)


def test_every_node_takes_jobs(cluster: Cluster) -> None:
    shown = cluster.run("sinfo", "-h", "-N", "-p", "normal", "-o", "%N %t").stdout
    states = dict(line.split() for line in shown.splitlines())
    assert set(states) == set(cluster.nodes)
    assert set(states.values()) <= {"idle", "mix", "alloc", "comp", "plnd"}


def test_ranks_follow_the_node_order(cluster: Cluster) -> None:
    hosts = cluster.run("srun", "-N4", "--label", "hostname").stdout
    assert ranked_lines(hosts) == ["n1", "n2", "n3", "n4"]


def test_every_node_has_its_own_tmp(cluster: Cluster) -> None:
    name = f"/tmp/{uuid.uuid4().hex}"
    script = f"hostname > {name}; sleep 0.5; cat {name}; rm {name}"
    seen = cluster.run("srun", "-N4", "--label", "bash", "-c", script).stdout
    assert ranked_lines(seen) == ["n1", "n2", "n3", "n4"]
    assert not Path(name).exists()


def test_the_state_directory_is_shared(cluster: Cluster) -> None:
    name = cluster.shared / uuid.uuid4().hex
    name.write_text("from the submission host")
    seen = cluster.run("srun", "-N4", "cat", name).stdout
    name.unlink()
    assert seen == "from the submission host" * 4


def test_every_node_has_its_own_address(cluster: Cluster) -> None:
    addresses = cluster.run("srun", "-N4", "--label", "hostname", "--all-ip-addresses").stdout
    shown = [address.strip() for address in ranked_lines(addresses)]
    assert [address.split()[0] for address in shown] == [f"10.77.1.{n}" for n in range(1, 5)]


def test_two_nodes_may_use_the_same_port_and_talk(cluster: Cluster) -> None:
    talk = """
import os, socket, time
rank = int(os.environ["SLURM_PROCID"])
server = socket.create_server((socket.gethostname(), 23456))
if rank == 0:
    connection, _ = server.accept()
    print(connection.recv(100).decode())
else:
    while True:
        try:
            client = socket.create_connection(("n1", 23456))
            break
        except ConnectionRefusedError:
            time.sleep(0.05)
    client.sendall(b"hello from " + socket.gethostname().encode())
    client.close()
"""
    said = cluster.run("srun", "-w", "n1,n2", "/usr/bin/python3", "-c", talk).stdout
    assert said == "hello from n2\n"


def test_node_command_runs_in_the_nodes_network(cluster: Cluster) -> None:
    shown = cluster.node_command("n3", "ip", "-brief", "address", "show", "eth0").stdout
    assert "10.77.1.3/16" in shown


def test_het_job_has_one_rank_space(cluster: Cluster) -> None:
    script = 'echo "$SLURM_PROCID of $SLURM_NTASKS $0"'
    component = ("bash", "-c", script)
    shown = cluster.run(
        *("salloc", "--quiet", "-N1", "-n1", ":", "-N2", "-n3"),
        *("srun", "--label", "--het-group=0", *component, "chief"),
        *(":", "--het-group=1", *component, "worker"),
    ).stdout
    texts = ranked_lines(shown)
    assert [text.split()[0] for text in texts] == ["0", "1", "2", "3"]
    assert [text.split()[-1] for text in texts] == ["chief", "worker", "worker", "worker"]


def test_steps_start_with_a_plugin_that_srun_has(cluster: Cluster) -> None:
    """Debian's later Slurm is built without pmix."""
    listed = cluster.run("srun", "--mpi=list")
    plugins = (listed.stdout + listed.stderr).split()
    default = re.search(r"MpiDefault\s+= (\S+)", cluster.run("scontrol", "show", "config").stdout)
    assert default
    assert default[1] == ("pmix" if "pmix" in plugins else "pmi2")


def test_gpus_are_handed_out(cluster: Cluster) -> None:
    script = 'echo "$CUDA_VISIBLE_DEVICES"'
    shown = cluster.run("srun", "-N2", "--gpus-per-node=2", "bash", "-c", script).stdout
    assert shown == "0,1\n0,1\n"


@pytest.mark.parametrize("user", [None, TEST_USER], ids=["root", "ordinary"])
def test_job_runs_as_its_user_and_is_accounted(cluster: Cluster, user: str | None) -> None:
    command = ("srun", "-N2", "bash", "-c", 'echo "$SLURM_JOB_ID $(id -un)"')
    lines = cluster.run(*command, user=user).stdout.splitlines()
    assert [line.split()[1] for line in lines] == [user or "root"] * 2
    job = lines[0].split()[0]
    assert accounted_states(cluster, job) == ["COMPLETED", "COMPLETED"]
    shown = cluster.run("sacct", "--noheader", "--format=State", "--jobs", job, user=user).stdout
    assert shown.split() == ["COMPLETED", "COMPLETED"]


def test_ordinary_user_sbatches_into_the_shared_directory(cluster: Cluster) -> None:
    output = cluster.shared / f"{uuid.uuid4().hex}.out"
    wrap = 'echo "$HOME on $(hostname)"'
    cluster.run("sbatch", "--wait", "-w", "n2", "-o", output, "--wrap", wrap, user=TEST_USER)
    assert output.read_text() == f"/home/{TEST_USER} on n2\n"
    assert output.owner() == TEST_USER
    output.unlink()


@pytest.mark.parametrize("partition", ["normal", "high"])
def test_partition_runs_jobs(cluster: Cluster, partition: str) -> None:
    script = 'echo "$SLURM_JOB_PARTITION"'
    assert cluster.run("srun", "-p", partition, "bash", "-c", script).stdout == f"{partition}\n"


def test_high_partition_preempts_and_requeues(cluster: Cluster) -> None:
    output = cluster.shared / f"{uuid.uuid4().hex}.out"
    job = cluster.run(
        *("sbatch", "--parsable", "--requeue", "--open-mode=append", "-w", "n4", "--exclusive"),
        *("-o", output, "--wrap", 'echo "restart ${SLURM_RESTART_COUNT:-0}"; sleep 600'),
    ).stdout.strip()
    try:
        wait_for_state(cluster, job, "RUNNING")
        cluster.run("srun", "-p", "high", "-w", "n4", "--exclusive", "true")
        wait_for_state(cluster, job, "RUNNING")
        wait_until(lambda: "restart 1\n" in output.read_text())
    finally:
        cluster.run("scancel", job)
    output.unlink()


@pytest.mark.skipif(
    not any(map(os.path.exists, ("/sys/fs/cgroup/memory", "/sys/fs/cgroup/cgroup.controllers"))),
    reason="NO MEMORY LIMITS: this machine has no memory controller of cgroups",
)
def test_task_over_its_memory_is_killed(cluster: Cluster) -> None:
    greedy = "import os; print(os.environ['SLURM_JOB_ID'], flush=True); bytearray(500 * 2**20)"
    done = cluster.run("srun", "--mem=100M", "/usr/bin/python3", "-c", greedy, check=False)
    assert done.returncode != 0
    assert re.search("oom[-_]kill event", done.stderr)  # 22.05 and later; before
    assert accounted_states(cluster, done.stdout.strip()) == ["OUT_OF_MEMORY", "OUT_OF_MEMORY"]


def test_failed_command_shows_what_it_printed(cluster: Cluster) -> None:
    with pytest.raises(subprocess.CalledProcessError, match="invalid partition specified: nowhere"):
        cluster.run("srun", "-p", "nowhere", "true")


def test_queue_lists_a_waiting_job(cluster: Cluster) -> None:
    job = cluster.run("sbatch", "--parsable", "--hold", "-J", "held", "--wrap", "true").stdout
    try:
        assert f"{job.strip()} normal held root PENDING (JobHeldUser)" in cluster.queue()
        with pytest.raises(TimeoutError, match="held"):
            cluster.wait_until_idle(timeout=0)
    finally:
        cluster.run("scancel", job.strip())


def process_ids(cluster: Cluster) -> dict[str, str]:
    return {path.name: path.read_text() for path in (cluster.directory / "pids").iterdir()}


def test_second_up_changes_nothing(cluster: Cluster) -> None:
    before = process_ids(cluster)
    temporary = (cluster.directory / "temporary").exists()
    options = ["--temporary"] if temporary else []
    done = subprocess.run([HERE / "up", *options], capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert process_ids(cluster) == before
    assert set(before) >= {"slurmctld.pid", "slurmdbd.pid", "slurmd-n1.pid", "slurmd-n4.pid"}
    assert (cluster.directory / "temporary").exists() == temporary
    assert is_up()


def test_up_refuses_another_size_than_stands(cluster: Cluster) -> None:
    other = str(len(cluster.nodes) + 1)
    done = subprocess.run([HERE / "up", "--nodes", other], capture_output=True, text=True)
    assert done.returncode == 2
    assert f"a cluster of {len(cluster.nodes)} nodes is up" in done.stderr


def test_another_cluster_on_the_same_machine_is_refused(cluster: Cluster) -> None:
    elsewhere = cluster.directory.parent / "hpctf-test-cluster-elsewhere"
    env = {"HPCTF_CLUSTER_DIR": str(elsewhere), "PATH": "/usr/bin:/bin"}
    done = subprocess.run([HERE / "up"], env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert f"HPCTF_CLUSTER_DIR={cluster.directory} tests/cluster/down" in done.stderr
    assert not elsewhere.exists()


@pytest.mark.parametrize("option", [["--nodes", "0"], ["--nodes", "x"], ["--nodes"], ["--wrong"]])
def test_up_explains_wrong_options(option: list[str]) -> None:
    done = subprocess.run([HERE / "up", *option], capture_output=True, text=True)
    assert done.returncode == 2
    assert option[0] in done.stderr


def test_ordinary_user_is_told_to_be_root(cluster: Cluster) -> None:
    for script in ("up", "down"):
        copy = cluster.shared / uuid.uuid4().hex
        shutil.copytree(HERE, copy, ignore=shutil.ignore_patterns("__pycache__"))
        done = cluster.run(copy / script, user=TEST_USER, check=False)
        shutil.rmtree(copy)
        assert done.returncode == 2
        assert "needs root" in done.stderr


@pytest.mark.parametrize("directory", ["/tmp/cluster", "relative", "/var/lib/with space"])
def test_up_refuses_an_unusable_state_directory(directory: str) -> None:
    env = {"HPCTF_CLUSTER_DIR": directory, "PATH": "/usr/bin:/bin"}
    done = subprocess.run([HERE / "up"], env=env, capture_output=True, text=True)
    assert done.returncode == 2
    assert directory in done.stderr


def hosts_function(call: str, hosts: Path) -> None:
    subprocess.run(
        ["bash", "-euo", "pipefail", "-c", f". {HERE}/lib.sh; {call}"],
        env={"PATH": "/usr/bin:/bin", "HOSTS_FILE": str(hosts), "HPCTF_CLUSTER_DIR": hosts.parent},
        check=True,
    )


@pytest.mark.parametrize(
    "content",
    [b"127.0.0.1 localhost\n", b"127.0.0.1 localhost", b"", b"\n\n# end\n\n", b"::1\tip6 \r\n"],
)
def test_host_names_leave_no_trace(tmp_path: Path, content: bytes) -> None:
    hosts = tmp_path / "hosts"
    hosts.write_bytes(content)
    hosts_function("add_hosts 12", hosts)
    added = hosts.read_bytes()
    assert added.endswith(content)
    assert b"10.77.0.1 ctl # hpctf-test-cluster\n10.77.1.1 n1 #" in added
    assert b"10.77.1.12 n12 # hpctf-test-cluster\n" in added
    hosts_function("add_hosts 12; add_hosts 12", hosts)
    assert hosts.read_bytes() == added
    hosts_function("add_hosts 4", hosts)
    assert b" n4 #" in hosts.read_bytes()
    assert b" n5 #" not in hosts.read_bytes()
    hosts_function("remove_hosts; remove_hosts", hosts)
    assert hosts.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == ["hosts"]
