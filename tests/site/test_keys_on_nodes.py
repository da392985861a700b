"""Keys of a site file that show on the nodes: umask, network, GPUs without a directive."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TEST_USER, Person
from tests.support.servers import after_servers

pytestmark = pytest.mark.slurm

SITE = """
name: keyed
targets:
  default: {{partition: normal, gpus: 2, gpu_request: none}}
{more}
"""

CANARY = "canary-of-a-token"
PRIVATE = ("confidential.json", "payload.pkl", "seal")
"""What is its owner's alone, whatever the umask."""

LOOK = """
import glob, os, subprocess
print("hello")
open("outputs/model", "w").close()
token = os.environ["HF_TOKEN"].encode()
assert len(token) == 17
job = ["scontrol", "show", "job", "--details", os.environ["SLURM_JOB_ID"]]
assert token not in subprocess.run(job, capture_output=True, check=True).stdout
for path in glob.glob("/proc/[0-9]*/cmdline"):
    try:
        assert token not in open(path, "rb").read(), path
    except OSError:
        continue
"""

CONNECT = """
import json, os, socket, threading

spec = json.loads(os.environ["TF_CONFIG"])
me, addresses = spec["task"]["index"], spec["cluster"]["worker"]
server = socket.create_server(("", int(addresses[me].rpartition(":")[2])))
came = []

def accept():
    for _ in addresses:
        connection, _ = server.accept()
        came.append(connection.getsockname()[0])

thread = threading.Thread(target=accept)
thread.start()
for address in addresses:
    host, port = address.split(":")
    while True:
        try:
            socket.create_connection((host, int(port))).close()
            break
        except ConnectionRefusedError:
            pass
thread.join()
with open(f"outputs/worker-{me}.json", "w") as stream:
    json.dump({"spec": addresses, "came": sorted(set(came))}, stream)
"""

SEND = """
import json, os, socket
from mpi4py import MPI

def daemons_peers():
    # Addresses that mpirun's daemon on this node has connections to.
    pid = os.getpid()
    while open(f"/proc/{pid}/comm").read().strip() not in ("orted", "prted"):
        pid = int(open(f"/proc/{pid}/stat").read().rpartition(")")[2].split()[1])
        if pid <= 1:
            return None
    files = [os.readlink(entry.path) for entry in os.scandir(f"/proc/{pid}/fd")]
    rows = [line.split() for line in open("/proc/net/tcp")][1:]
    remote = [row[2][:8] for row in rows if row[3] == "01" and f"socket:[{row[9]}]" in files]
    return [socket.inet_ntoa(bytes.fromhex(address)[::-1]) for address in remote]

def bytes_sent():
    with open("/proc/self/net/dev") as stream:
        rows = [line.replace(":", " ").split() for line in stream]
    return {row[0]: int(row[9]) for row in rows[2:]}

world = MPI.COMM_WORLD
before = bytes_sent()
world.Allreduce(MPI.IN_PLACE, bytearray(4_000_000), MPI.BOR)
world.Barrier()
sent = {name: bytes_sent()[name] - before[name] for name in before}
names = ("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME")
with open(f"outputs/worker-{world.rank}.json", "w") as stream:
    seen = {name: os.environ.get(name) for name in names}
    json.dump({"sent": sent, "peers": daemons_peers(), **seen}, stream)
"""

GPUS = """
import json, os
name = os.environ["HPCTF_ROLE"] + "-" + os.environ["HPCTF_INDEX"]
with open(f"outputs/{name}.json", "w") as stream:
    json.dump(os.environ.get("CUDA_VISIBLE_DEVICES"), stream)
"""


def submit(person: Person, script: str, more: str, *words: str) -> dict[str, Any]:
    """Run a script on a site with more keys, and return what each rank wrote."""
    path = person.write("proj/train.py", script)
    person.write("site.yaml", SITE.format(more=more))
    person.hpctf("submit", "--site", "./site.yaml", *words, "--wait", path)
    outputs = Path(person.status()["run_folder"]) / "outputs"
    return {file.stem: json.loads(file.read_text()) for file in outputs.glob("*.json")}


def as_group_mate(person: Person, *words: str, group: str = TEST_USER) -> tuple[int, str]:
    """Run hpctf as another ordinary user in a group; return exit code and output."""
    done = person.cluster.run(
        *("/usr/sbin/runuser", "-u", "nobody", "-g", group, "--", person.bin / "hpctf", *words),
        check=False,
        env={**person.env, "HOME": "/nonexistent"},
    )
    return done.returncode, done.stdout


def test_with_umask_0027_the_group_reads_a_run_and_nobody_else_does(person: Person) -> None:
    person.env["HF_TOKEN"] = CANARY
    words = ["--backend", "mpi", "--nodes", "2", "--env", "HF_TOKEN"]
    submit(person, LOOK, "umask: '0027'", *words)
    status = person.status()
    for path in [Path(status["run_folder"]), *Path(status["run_folder"]).rglob("*")]:
        if path.name in PRIVATE:
            assert stat.S_IMODE(path.stat().st_mode) == 0o600
            continue
        assert path.is_symlink() or path.is_dir() or CANARY.encode() not in path.read_bytes()
        mode = stat.S_IMODE(path.lstat().st_mode)
        readable = 0o050 if path.is_dir() else 0o040
        assert path.is_symlink() or (mode & 0o070) == readable, (path, oct(mode))
    assert stat.S_IMODE(Path(status["run_folder"]).stat().st_mode) == 0o750
    assert (Path(status["run_folder"]) / "confidential.json").is_file()
    del person.env["HF_TOKEN"]
    for words in (["status"], ["logs"], ["files"], ["why"]):
        code, told = as_group_mate(person, *words, status["id"])
        assert (code, bool(told)) == (0, True), words
        assert CANARY not in told
        assert as_group_mate(person, *words, status["id"], group="nogroup")[0] != 0
    assert person.hpctf("result", status["id"]).returncode == 0


def test_without_a_umask_a_run_is_the_users_alone(person: Person) -> None:
    submit(person, "print('hello')", "")
    folder = Path(person.status()["run_folder"])
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    for path in (folder / "logs/job.log", folder / "logs/worker-0.log", folder / "plan.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_ranks_meet_at_the_addresses_of_the_network_that_the_site_names(person: Person) -> None:
    words = ["--backend", "collective", "--nodes", "2"]
    said = submit(person, CONNECT, "network: {host_suffix: -ib}", *words)
    assert {one["spec"][0].partition(":")[0][2:] for one in said.values()} == {"-ib"}
    came = {address for one in said.values() for address in one["came"]}
    assert len(came) == 2 and all(address.startswith("10.78.1.") for address in came)


def test_parameter_servers_of_a_het_job_are_named_there_too(person: Person) -> None:
    tell = "import os; open('outputs/chief.json', 'w').write(os.environ['TF_CONFIG'])"
    words = ["--backend", "ps", "--ps-mode", "script"]
    said = submit(
        person,
        f"import os\nif os.environ['HPCTF_ROLE'] == 'chief':\n    {tell}\n",
        "network: {host_suffix: -ib}",
        *words,
    )
    cluster = said["chief"]["cluster"]
    hosts = [address.partition(":")[0] for role in cluster.values() for address in role]
    assert len(hosts) == 3 and all(host.endswith("-ib") for host in hosts)


def test_a_suffix_that_leads_nowhere_ends_the_run_at_once_and_names_the_key(
    person: Person,
) -> None:
    script = person.write("proj/train.py", "print('never')")
    person.write("site.yaml", SITE.format(more="network: {host_suffix: -nope}"))
    words = ["--site", "./site.yaml", "--backend", "collective", "--nodes", "2", "--wait"]
    done = person.hpctf("submit", *words, script, check=False)
    assert done.returncode == 1
    assert "-nope, by which the other ranks are to reach this one, leads nowhere" in done.stderr
    assert "host_suffix" in done.stderr


@pytest.mark.parametrize("launcher", ["srun", "mpirun"])
def test_mpi_talks_over_the_interface_that_the_site_names(
    person: Person, training_python: str, launcher: str
) -> None:
    more = f"network: {{interfaces: [ib0]}}\nmpi: {{launcher: {launcher}, plugin: pmix}}"
    words = ["--backend", "mpi", "--nodes", "2", "--python", training_python]
    ranks = submit(person, SEND, more, *words)
    for said in ranks.values():
        assert said["sent"]["ib0"] > 3_000_000 > said["sent"]["eth0"]
        assert (said["NCCL_SOCKET_IFNAME"], said["GLOO_SOCKET_IFNAME"]) == ("ib0", "ib0")
    # mpirun itself is on the first node; on the other one its daemon has a connection to it.
    peers = [peer for peer in ranks["worker-1"]["peers"] or [] if peer != "127.0.0.1"]
    assert bool(peers) == (launcher == "mpirun")
    assert all(peer.startswith("10.78.1.") for peer in peers)
    words += ["--env", "OMPI_MCA_btl_tcp_if_include=eth0", "--env", "NCCL_SOCKET_IFNAME=mine"]
    for said in submit(person, SEND, more, *words).values():
        assert said["sent"]["eth0"] > 3_000_000 > said["sent"]["ib0"]
        assert said["NCCL_SOCKET_IFNAME"] == "mine"


def test_gpus_that_come_with_the_node_are_shared_without_a_directive(person: Person) -> None:
    said = submit(person, GPUS, "", "--use-gpu", "--backend", "mpi", "--procs-per-node", "2")
    assert said == {"worker-0": "0", "worker-1": "1"}
    assert "gpu" not in (Path(person.status()["run_folder"]) / "job.sbatch").read_text()
    words = ["--use-gpu", "--backend", "ps", "--ps-mode", "script", "--no-chief"]
    said = submit(person, GPUS + after_servers("outputs/ps-{n}.json"), "", *words)
    assert said == {"worker-0": "0,1", "ps-0": ""}
    words = ["--use-gpu", "--backend", "mpi", "--procs-per-node", "2", "--no-pin-gpus"]
    assert submit(person, GPUS, "", *words) == {"worker-0": None, "worker-1": None}
