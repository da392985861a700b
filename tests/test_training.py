"""Real training of real digits on the real cluster: every example, on every backend."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cluster.fixture import TEST_USER
from tests.conftest import ROOT, Person
from tests.support.training import PS, train
from tests.support.waiting import HANGS_S

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow]

AS_ROOT = pytest.mark.parametrize("trainer", [None], ids=["root"], indirect=True)
"""The others, and the digits' way to a service (tests/models), are a user's."""


@AS_ROOT
def test_one_process_with_keras(trainer: Person) -> None:
    train(trainer, "digits/single.py")
    assert "outputs/model.keras" in trainer.hpctf("files", "@last").stdout


@AS_ROOT
def test_horovod_over_mpirun_with_its_timeline_and_each_ranks_profile(trainer: Person) -> None:
    """Over srun, it is what tests/models and tests/correctness train with."""
    words = ["--site", "slurm-mpirun", "--profile", "--timeline"]
    train(trainer, "digits/jobs/horovod.yaml", *words)
    assert any(
        event.get("name") == "MPI_ALLREDUCE"
        for event in json.loads(trainer.output("horovod-timeline.json"))
    )
    for worker in ("worker-0", "worker-1"):
        assert b"HorovodAllreduce" in profile(trainer, worker)[0]


@AS_ROOT
def test_parameter_servers_with_a_coordinator_and_their_profile(trainer: Person) -> None:
    words = ["--ps-placement", "hetjob", "--profile-steps", "5-30"]
    train(trainer, "digits/jobs/ps.yaml", *words)
    written = profile(trainer, "chief-0")
    assert len(written) == 4  # the chief, two workers, one ps
    # the ps has its part of a step, and now and then that is within what was recorded
    assert sum(b"__inference_step" in one for one in written) >= 3


def test_parameter_servers_with_the_script_on_every_task(trainer: Person) -> None:
    train(trainer, "digits/ps.py", *PS, "--ps-placement", "shared", "--ps-mode", "script")


def profile(trainer: Person, task: str) -> list[bytes]:
    """Return what TensorFlow's profiler has written for a task of the last run."""
    outputs = Path(trainer.status()["run_folder"]) / "outputs"
    return [path.read_bytes() for path in sorted(outputs.glob(f"profile/{task}/**/*.xplane.pb"))]


def test_every_job_file_is_tested() -> None:
    jobs = {path.name for path in (ROOT / "examples/digits/jobs").iterdir()}
    assert jobs == {"horovod.yaml", "ps.yaml"}


@AS_ROOT
def test_multi_worker_mirrored(trainer: Person) -> None:
    train(trainer, "digits/multiworker.py", "--backend", "collective", "--nodes", "2")


def test_function_entry(trainer: Person) -> None:
    done = trainer.cluster.run(
        trainer.bin / "python",
        "examples/function.py",
        user=trainer.user,
        cwd=trainer.home,
        env=trainer.env,
        timeout=HANGS_S,
    )
    assert "accuracy" in done.stdout


def test_notebook(trainer: Person) -> None:
    trainer.cluster.run(
        trainer.bin / "jupyter-execute",
        "--inplace",
        "notebook.ipynb",
        user=trainer.user,
        cwd=trainer.home / "examples",
        env=trainer.env,
        timeout=HANGS_S,
    )
    notebook = json.loads((trainer.home / "examples/notebook.ipynb").read_text())
    printed = [
        "".join(output.get("text", ""))
        for cell in notebook["cells"]
        for output in cell.get("outputs", [])
    ]
    assert any("accuracy" in text for text in printed)


@pytest.mark.parametrize("trainer", [TEST_USER, None], ids=["user", "root"], indirect=True)
def test_mpi4py_exchanges_between_nodes(trainer: Person) -> None:
    trainer.write(
        "examples/reduce.py",
        "import json\n"
        "from mpi4py import MPI\n"
        "world = MPI.COMM_WORLD\n"
        "total = world.allreduce(world.rank + 1)\n"
        "hosts = world.gather(MPI.Get_processor_name())\n"
        "if world.rank == 0:\n"
        "    accuracy = float(total == 10 and len(set(hosts)) == 2)\n"
        "    json.dump({'accuracy': accuracy}, open('outputs/metrics.json', 'w'))\n",
    )
    for site in ("slurm", "slurm-mpirun"):
        words = ["--site", site, "--backend", "mpi", "--nodes", "2", "--procs-per-node", "2"]
        train(trainer, "reduce.py", *words)
