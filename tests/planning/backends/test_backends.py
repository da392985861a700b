"""Every backend on the real cluster: who runs where, with what environment, what comes back."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.conftest import ROOT, TEST_USER, Person
from tests.support.servers import after_servers

pytestmark = pytest.mark.slurm

WHO_AM_I = """
import json, os, socket, sys
me = {k: v for k, v in os.environ.items() if k.startswith("HPCTF_")}
me.update(host=socket.gethostname(), tf=os.environ.get("TF_CONFIG"), argv=sys.argv[1:],
          gpus=os.environ.get("CUDA_VISIBLE_DEVICES"), cwd=os.getcwd())
name = f"outputs/{me['HPCTF_ROLE']}-{me['HPCTF_INDEX']}.json"
with open(f"{name}.part", "w") as stream:
    json.dump(me, stream)
os.rename(f"{name}.part", name)
"""


def submit(person: Person, *words: str) -> dict[str, dict]:
    """Submit WHO_AM_I, wait, and return what each rank said of itself, by name."""
    script = person.write("proj/who.py", WHO_AM_I + after_servers("outputs/ps-{n}.json"))
    run = person.hpctf("submit", *words, "--wait", script).stdout.strip()
    status = person.status(run)
    assert status["state"] == "Completed"
    assert all(role["exit_code"] == 0 for role in status["roles"] if role["role"] != "ps")
    outputs = Path(status["run_folder"]) / "outputs"
    said = {path.stem: json.loads(path.read_text()) for path in outputs.glob("*.json")}
    assert person.jobs() == []
    return said


def test_single_runs_one_process_without_tf_config(person: Person) -> None:
    said = submit(person)
    assert list(said) == ["worker-0"]
    assert said["worker-0"]["tf"] is None
    assert said["worker-0"]["HPCTF_WORLD_SIZE"] == "1"


def test_an_inherited_tf_config_does_not_reach_the_script(person: Person) -> None:
    person.env["TF_CONFIG"] = "left over"
    assert submit(person)["worker-0"]["tf"] is None


def test_single_on_two_nodes_runs_once_and_says_that_one_idles(person: Person) -> None:
    script = person.write("proj/who.py", WHO_AM_I)
    done = person.hpctf("submit", "--backend", "single", "--nodes", "2", "--wait", script)
    assert "1 of 2 nodes will be allocated but idle" in done.stderr
    assert len(person.status()["roles"]) == 1


@pytest.mark.parametrize("site", ["slurm", "slurm-mpirun"])
@pytest.mark.parametrize("person", [TEST_USER, None], ids=["user", "root"], indirect=True)
def test_mpi_ranks_fill_node_by_node(person: Person, site: str) -> None:
    said = submit(
        person, "--site", site, "--backend", "mpi", "--nodes", "2", "--procs-per-node", "2"
    )
    assert sorted(said) == ["worker-0", "worker-1", "worker-2", "worker-3"]
    hosts = [said[f"worker-{rank}"]["host"] for rank in range(4)]
    assert hosts[0] == hosts[1] != hosts[2] == hosts[3]
    assert [said[f"worker-{rank}"]["HPCTF_LOCAL_RANK"] for rank in range(4)] == list("0101")
    assert {one["tf"] for one in said.values()} == {None}


def test_collective_gives_every_worker_the_same_cluster(person: Person) -> None:
    said = submit(person, "--backend", "collective", "--nodes", "3")
    configs = [json.loads(said[f"worker-{index}"]["tf"]) for index in range(3)]
    assert all(config["cluster"] == configs[0]["cluster"] for config in configs)
    assert [config["task"] for config in configs] == [
        {"type": "worker", "index": index} for index in range(3)
    ]
    hosts = [address.split(":")[0] for address in configs[0]["cluster"]["worker"]]
    assert hosts == [said[f"worker-{index}"]["host"] for index in range(3)]
    assert len(set(hosts)) == 3


def test_collective_workers_share_a_node_on_ports_of_their_own(person: Person) -> None:
    said = submit(person, "--backend", "collective", "--nodes", "1", "--workers", "3")
    workers = json.loads(said["worker-0"]["tf"])["cluster"]["worker"]
    assert len(set(workers)) == 3
    assert len({address.split(":")[0] for address in workers}) == 1


@pytest.mark.parametrize("placement", ["hetjob", "shared"])
@pytest.mark.parametrize("person", [TEST_USER, None], ids=["user", "root"], indirect=True)
def test_ps_script_mode_runs_on_every_task(person: Person, placement: str) -> None:
    words = ["--backend", "ps", "--workers", "3", "--ps", "2", "--nodes", "3"]
    said = submit(person, *words, "--ps-mode", "script", "--ps-placement", placement)
    assert sorted(said) == ["chief-0", "ps-0", "ps-1", "worker-0", "worker-1", "worker-2"]
    spec = json.loads(said["chief-0"]["tf"])["cluster"]
    for name, one in said.items():
        config = json.loads(one["tf"])
        role, _, index = name.partition("-")
        assert config["cluster"] == spec
        assert config["task"] == {"type": role, "index": int(index)}
        assert spec[role][int(index)].split(":")[0] == one["host"]
    ps_hosts = {said[name]["host"] for name in ("ps-0", "ps-1")}
    worker_hosts = {said[f"worker-{index}"]["host"] for index in range(3)}
    assert (ps_hosts & worker_hosts == set()) == (placement == "hetjob")


def test_ps_without_a_chief_is_azure_mls_layout(person: Person) -> None:
    words = ["--backend", "ps", "--workers", "2", "--ps", "1", "--nodes", "2"]
    said = submit(person, *words, "--ps-mode", "script", "--no-chief", "--ps-placement", "shared")
    assert sorted(json.loads(said["worker-0"]["tf"])["cluster"]) == ["ps", "worker"]


TWO = ["--backend", "mpi", "--procs-per-node", "2"]
APART = {"worker-0": "0", "worker-1": "1"}


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["--backend", "collective", "--nodes", "2"], {"worker-0": "0", "worker-1": "0"}),
        (
            ["--backend", "collective", "--workers", "2", "--nodes", "1"],
            {"worker-0": "0", "worker-1": "1"},
        ),
        (
            ["--backend", "mpi", "--procs-per-node", "2"],
            {"worker-0": "0", "worker-1": "1"},
        ),
        (
            ["--backend", "mpi", "--procs-per-node", "2", "--no-pin-gpus"],
            {"worker-0": "0,1", "worker-1": "0,1"},
        ),
        (
            ["--backend", "mpi", "--procs-per-node", "2", "--site", "slurm-mpirun"],
            {"worker-0": "0", "worker-1": "1"},
        ),
        (["--gpus-per-node", "2"], {"worker-0": "0,1"}),
        ([*TWO, "--sbatch", "gpus-per-task=1"], APART),
        ([*TWO, "--sbatch", "gpu-bind=single:1"], APART),
        ([*TWO, "--sbatch", "gpu-bind=map_gpu:1,0"], {"worker-0": "1", "worker-1": "0"}),
        ([*TWO, "--sbatch", "gpu-bind=mask_gpu:3,3"], {"worker-0": "0,1", "worker-1": "0,1"}),
        ([*TWO, "--sbatch", "gpus-per-task=1", "--site", "slurm-mpirun"], APART),
    ],
)
def test_each_rank_sees_its_own_gpus(
    person: Person, words: list[str], shown: dict[str, str]
) -> None:
    said = submit(person, "--use-gpu", *words)
    assert {name: one["gpus"] for name, one in said.items()} == shown


@pytest.mark.parametrize("placement", ["hetjob", "shared"])
def test_parameter_servers_see_no_gpu(person: Person, placement: str) -> None:
    words = ["--backend", "ps", "--workers", "2", "--nodes", "2", "--gpus-per-node", "2"]
    said = submit(person, *words, "--ps-mode", "script", "--ps-placement", placement, "--no-chief")
    assert said["ps-0"]["gpus"] == ""
    expected = {"hetjob": ["0", "1"], "shared": ["0,1", "0,1"]}[placement]
    assert [said[f"worker-{index}"]["gpus"] for index in (0, 1)] == expected


def test_arguments_variables_and_inputs_arrive_as_they_are(person: Person) -> None:
    nasty = ["--rate", "0.5", "a b", "$(touch /tmp/x); 'q'", "line\nbreak", "ünï", "#SBATCH --x"]
    data = person.write("data set/digits.csv", "1,2")
    script = person.write("proj/env.py", WHO_AM_I + "\nprint(os.environ['NASTY'])\n")
    value = "x'y\"z $HOME `id` \n#SBATCH --nodes=9"
    words = ["--env", f"NASTY={value}", "--input", f"digits={data}", "--wait", script, "--"]
    run = person.hpctf("submit", *words, *nasty).stdout.strip()
    said = json.loads(person.output("worker-0.json", run))
    assert said["argv"] == nasty
    assert said["HPCTF_INPUT_DIGITS"] == str(data)
    assert person.hpctf("logs", run).stdout == value + "\n"


def test_a_job_array_keeps_the_template_and_gives_each_run_its_own_folder(person: Person) -> None:
    person.write("proj/who.py", WHO_AM_I)
    program = person.write(
        "sweep.py",
        "from hpctf import Experiment, TensorFlow\n"
        "runs = Experiment('sweep').submit_array([\n"
        "    TensorFlow('proj', entry_script='who.py', arguments=[rate], node_count=2,\n"
        "               distributed_backend='collective') for rate in (1, 2, 3)])\n"
        "for run in runs:\n"
        "    run.wait_for_completion()\n"
        "    print(run.job_id, run.id, len(run.results()))\n",
    )
    done = person.cluster.run(
        person.bin / "python", program, user=person.user, cwd=person.home, env=person.env
    )
    rows = [line.split() for line in done.stdout.splitlines()]
    assert [row[0].partition("_")[2] for row in rows] == ["0", "1", "2"]
    assert [row[2] for row in rows] == ["2", "2", "2"]
    for rate, (_, run, _) in zip((1, 2, 3), rows, strict=True):
        assert json.loads(person.output("worker-1.json", run))["argv"] == [str(rate)]
        assert person.status(run)["state"] == "Completed"


def test_more_than_the_site_has_is_refused_before_anything_is_written(person: Person) -> None:
    script = person.write("proj/who.py", WHO_AM_I)
    person.write("site.yaml", (ROOT / "tests/cluster/site.yaml").read_text())
    for words, said in [
        (["--backend", "mpi", "--nodes", "5"], "node_count is 5, but target 'normal' allows 4"),
        (["--backend", "mpi", "--procs-per-node", "17"], "1 nodes × 16 slots"),
        (["--gpus-per-node", "3"], "gpus_per_node is 3, but target 'normal' has 2 GPUs per node"),
        (["--target", "hihg"], "Did you mean 'high'?"),
    ]:
        done = person.hpctf("submit", "--site", "./site.yaml", *words, script, check=False)
        assert done.returncode == 2
        assert said in done.stderr and "Traceback" not in done.stderr
    assert list(person.home.glob("runs/*/*")) == []


def test_without_slots_in_the_site_slurm_refuses_what_could_never_run(person: Person) -> None:
    script = person.write("proj/who.py", WHO_AM_I)
    for words in (["--backend", "mpi", "--nodes", "200"], ["--backend", "ps", "--workers", "200"]):
        done = person.hpctf("submit", *words, script, check=False)
        assert done.returncode == 3
        assert "sbatch refused the job" in done.stderr
    assert list(person.home.glob("runs/*/*")) == []


def test_a_target_of_the_site_chooses_its_partition(person: Person) -> None:
    person.write("site.yaml", (ROOT / "tests/cluster/site.yaml").read_text())
    submit(person, "--site", "./site.yaml", "--target", "high", "--use-gpu")
    script = Path(person.status()["run_folder"]) / "job.sbatch"
    assert "#SBATCH --partition=high\n#SBATCH --gpus-per-node=2\n" in script.read_text()
