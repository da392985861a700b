"""Real training of real digits on the real cluster: every example, on every backend."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hpctf import Run
from tests.cluster.fixture import TEST_USER
from tests.conftest import ROOT, Person
from tests.support.waiting import HANGS_S

pytestmark = [pytest.mark.slurm, pytest.mark.tensorflow]

ENOUGH = 0.9
"""Accuracy on the held-out digits that every backend must reach, of which guessing reaches 0.1.

One process reaches 0.97. Of 360 images that varies by 0.027 (three standard deviations) from one
equally good model to the next, and asynchronous steps, computed on weights that are some steps old
if a machine is busy, may cost as much again. Exactly the same weights are tests/correctness's."""

SEEN = ROOT / "tests/client/keras/seen.py"
PS = ["--backend", "ps", "--workers", "2", "--ps", "1"]


def train(trainer: Person, script: str, *words: str) -> dict[str, float]:
    """Submit an example, wait for it, and return the metrics that it wrote; those that it logged
    to its run agree with them."""
    python = trainer.env["HPCTF_EXAMPLE_PYTHON"]
    options = ["--python", python, *words, "--wait"]
    run = trainer.hpctf("submit", *options, f"examples/{script}").stdout.strip()
    status = trainer.status(run)
    assert status["state"] == "Completed"
    results = json.loads(trainer.hpctf("result", run, "--json").stdout)["results"]
    assert [(one["role"], one["index"]) for one in results] == [
        (role["role"], role["index"]) for role in status["roles"]
    ]
    assert trainer.jobs() == []
    metrics: dict[str, float] = json.loads(trainer.output("metrics.json", run))
    assert metrics["accuracy"] >= ENOUGH
    if "epochs" in metrics:
        logged = Run(status["run_folder"]).series()
        assert logged["held_out_accuracy"].values == [pytest.approx(metrics["accuracy"], abs=1e-4)]
        assert len(logged["loss"].values) == metrics["epochs"]
    return metrics


def test_one_process_with_keras(trainer: Person) -> None:
    train(trainer, "digits/single.py")
    assert "outputs/model.keras" in trainer.hpctf("files", "@last").stdout


def test_horovod_over_mpirun_with_its_timeline_and_each_ranks_profile(trainer: Person) -> None:
    """Over srun, it is what `test_one_script_on_every_backend` and tests/correctness train with."""
    words = ["--site", "slurm-mpirun", "--profile", "--timeline"]
    train(trainer, "digits/jobs/horovod.yaml", *words)
    assert any(
        event.get("name") == "MPI_ALLREDUCE"
        for event in json.loads(trainer.output("horovod-timeline.json"))
    )
    for worker in ("worker-0", "worker-1"):
        assert b"HorovodAllreduce" in profile(trainer, worker)[0]


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


def test_multi_worker_mirrored(trainer: Person) -> None:
    train(trainer, "digits/multiworker.py", "--backend", "collective", "--nodes", "2")


@pytest.mark.parametrize("trainer", [None], ids=["root"], indirect=True)  # the others: a user
@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--backend", "mpi", "--nodes", "2"],
        ["--backend", "collective", "--nodes", "2"],
        [*PS, "--ps-placement", "shared"],
        [*PS, "--ps-placement", "hetjob", "--ps-mode", "script"],
    ],
    ids=["single", "mpi", "collective", "ps", "ps-script"],
)
def test_one_script_on_every_backend(trainer: Person, words: list[str]) -> None:
    """And which rank saw what, with the strategy that there is then."""
    trainer.write("examples/digits/seen.py", SEEN.read_text())
    trainer.write(
        "examples/digits/both.py", "import anywhere, seen\nanywhere.main()\nseen.main()\n"
    )
    metrics = train(trainer, "digits/both.py", *words)
    assert metrics["size"] == (2 if words else 1)
    assert "outputs/model.keras" in trainer.hpctf("files", "@last").stdout
    found = json.loads(trainer.output("seen.json"))
    if words:
        check_that_workers_saw_disjoint_data(found, words[1])
    else:
        [seen] = found["seen"]
        assert sum(seen) == found["steps"] * 4 == 44
        assert max(seen) == 1


def check_that_workers_saw_disjoint_data(found: dict[str, Any], backend: str) -> None:
    first, second = found["seen"]
    assert not [n for n, both in enumerate(zip(first, second, strict=True)) if all(both)]
    assert not any(first[1::2]) and not any(second[0::2]), "even ones for rank 0, odd for 1"
    assert found["size"] == 2
    if backend == "collective":
        assert found["rebatched"] == [[0, 2, 4, 6], [8, 10, 12, 14]]
    if backend == "ps":  # a step goes to whoever is free
        assert sum(first) + sum(second) == found["steps"] * 4 == 44
        return
    assert found["steps"] == 5
    assert sum(first) == sum(second) == 20
    assert max(first + second) == 1, "an epoch is one pass"


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
