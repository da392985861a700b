"""Estimator + site → plan: who runs where, with which Slurm options, and what is refused."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest

from hpctf import HpctfError, Mpi, ParameterServer, TensorFlow, UsageError
from hpctf.plan import Component, Plan
from hpctf.planning.planner import make_plan
from hpctf.site.loading import load_site
from hpctf.site.model import MpiSettings, PsSettings
from tests.support.projects import CLUSTER_SITE, options, planned, project, site_of

RICH = CLUSTER_SITE


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return project(tmp_path / "proj")


def shape(plan: Plan) -> tuple[dict[str, int], list[tuple[int, int]]]:
    """Return the roles' counts, and (nodes, tasks) of every component."""
    return (
        {role.name: role.count for role in plan.roles},
        [(component.nodes, component.tasks) for component in plan.components],
    )


def refused(source: Path, site: Any = "slurm", **asked: Any) -> str:
    with pytest.raises(HpctfError) as caught:
        planned(source, site, **asked)
    assert (
        caught.value.hint or "hpctf sets it" in str(caught.value) or "#SBATCH" in str(caught.value)
    )
    return str(caught.value)


PS_HET = ({"chief": 1, "worker": 4, "ps": 2}, [(4, 5), (1, 2)])
PS_HET_3 = ({"chief": 1, "worker": 4, "ps": 3}, [(4, 5), (2, 3)])
PS_HET_5 = ({"chief": 1, "worker": 5, "ps": 1}, [(2, 6), (1, 1)])
PS_SHARED = ({"chief": 1, "worker": 4, "ps": 2}, [(4, 7)])


@pytest.mark.parametrize(
    ("site", "asked", "expected", "method"),
    [
        ("slurm", {}, ({"worker": 1}, [(1, 1)]), "srun"),
        ("slurm-mpirun", {}, ({"worker": 1}, [(1, 1)]), "srun"),
        ("local", {}, ({"worker": 1}, [(1, 1)]), "local"),
        ("slurm", {"backend": "mpi", "nodes": 2, "procs": 3}, ({"worker": 6}, [(2, 6)]), "srun"),
        ("slurm-mpirun", {"backend": "mpi", "nodes": 2}, ({"worker": 2}, [(2, 2)]), "mpirun"),
        ("local", {"backend": "mpi", "procs": 2}, ({"worker": 2}, [(1, 2)]), "mpirun"),
        ("slurm", {"backend": "ps", "workers": 4, "ps": 2}, PS_HET, "srun"),
        ("slurm-mpirun", {"backend": "ps", "workers": 4, "ps": 2}, PS_SHARED, "srun"),
        ("local", {"backend": "ps", "workers": 4, "ps": 2}, (PS_SHARED[0], [(1, 7)]), "local"),
        ("slurm", {"backend": "collective", "nodes": 3}, ({"worker": 3}, [(3, 3)]), "srun"),
        ("slurm", {"backend": "collective", "workers": 3}, ({"worker": 3}, [(3, 3)]), "srun"),
        (
            "slurm",
            {"backend": "collective", "nodes": 2, "procs": 2},
            ({"worker": 4}, [(2, 4)]),
            "srun",
        ),
        ("local", {"backend": "collective", "workers": 3}, ({"worker": 3}, [(1, 3)]), "local"),
        (RICH, {"backend": "ps", "workers": 4, "ps": 3}, PS_HET_3, "srun"),
        (RICH, {"backend": "ps", "workers": 5, "ps": 1, "procs": 4}, PS_HET_5, "srun"),
    ],
)
def test_each_backend_lays_its_roles_out(
    source: Path, site: Any, asked: dict[str, Any], expected: Any, method: str
) -> None:
    names = {
        "backend": "distributed_backend",
        "nodes": "node_count",
        "procs": "process_count_per_node",
        "workers": "worker_count",
        "ps": "parameter_server_count",
    }
    plan = planned(source, site, **{names[key]: value for key, value in asked.items()}).plan
    assert shape(plan) == expected
    assert plan.launch.method == method
    assert plan.tasks == sum(component.tasks for component in plan.components)
    assert plan.tf_config == (plan.backend in ("ps", "collective"))


def test_ps_roles_of_a_coordinator(source: Path) -> None:
    chief, worker, ps = planned(source, distributed_backend="ps").plan.roles
    assert (chief.runs, worker.runs, ps.runs) == ("script", "server", "server")
    assert (chief.decides, worker.decides, ps.decides) == (True, False, False)
    assert (chief.component, worker.component, ps.component) == (0, 0, 1)


def test_ps_roles_when_the_script_runs_on_every_task(source: Path) -> None:
    training = ParameterServer(2, 1, coordinator=False, chief=False)
    worker, ps = planned(source, distributed_training=training).plan.roles
    assert (worker.runs, ps.runs) == ("script", "script")
    assert (worker.decides, ps.decides) == (True, False)


def test_mpi_on_a_local_site_needs_no_mpi_section(source: Path) -> None:
    laptop = site_of("local", mpi=MpiSettings())
    launch = planned(
        source, laptop, distributed_backend="mpi", process_count_per_node=2
    ).plan.launch
    assert (launch.method, launch.options) == ("mpirun", ("--oversubscribe",))


def test_single_on_several_nodes_says_that_they_idle(source: Path) -> None:
    made = planned(source, distributed_backend="single", node_count=3)
    assert made.notes == (
        "backend 'single' runs one process: 2 of 3 nodes will be allocated but idle unless the "
        "script uses them itself.",
    )


@pytest.mark.parametrize(
    ("site", "asked", "message"),
    [
        (
            site_of(RICH, ps=PsSettings(placement="shared")),
            {
                "distributed_backend": "ps",
                "worker_count": 8,
                "parameter_server_count": 1,
                "node_count": 2,
            },
            "worker_count + parameter_server_count is 9, "
            "but target 'gpu' has 2 nodes × 4 slots = 8.\n"
            "  Ask for more nodes (--nodes 3) or fewer tasks.",
        ),
        (
            RICH,
            {"distributed_backend": "ps", "worker_count": 9, "node_count": 3},
            "worker_count is 9, but target 'gpu' has 2 nodes × 4 slots = 8.\n"
            "  Ask for more nodes (--nodes 4) or fewer tasks.",
        ),
        (
            RICH,
            {"distributed_backend": "mpi", "process_count_per_node": 5, "node_count": 2},
            "node_count × process_count_per_node is 10, "
            "but target 'gpu' has 2 nodes × 4 slots = 8.\n"
            "  Ask for more nodes (--nodes 3) or fewer tasks.",
        ),
        (
            RICH,
            {"distributed_backend": "collective", "node_count": 9},
            "node_count is 9, but target 'gpu' allows 8: it has 8.\n"
            "  Ask for fewer nodes, or choose another target (--target) or site (--site).",
        ),
        (
            "slurm",
            {"distributed_backend": "ps", "worker_count": 2, "node_count": 6},
            "worker_count is 2, but node_count is 6: some nodes would have nothing to do.\n"
            "  Ask for fewer nodes (--nodes 3) or more tasks.",
        ),
        (
            "local",
            {"distributed_backend": "collective", "node_count": 2},
            "node_count is 2, but target 'default' allows 1: this machine is one node.\n"
            "  Ask for fewer nodes, or choose another target (--target) or site (--site).",
        ),
    ],
)
def test_what_does_not_fit_is_refused_with_the_sum(
    source: Path, site: Any, asked: dict[str, Any], message: str
) -> None:
    assert refused(source, site, **asked) == message


def test_a_het_job_needs_a_node_beside_the_parameter_servers(source: Path) -> None:
    message = refused(source, distributed_backend="ps", node_count=1)
    assert "leaves none for the workers" in message
    assert "--nodes 2" in message and "--ps-placement shared" in message


def test_workers_crowd_onto_the_nodes_a_target_allows(source: Path) -> None:
    for backend, others in (("collective", 0), ("ps", 1)):
        plan = planned(source, RICH, distributed_backend=backend, worker_count=20).plan
        assert plan.components[0].nodes == 8
        assert len(plan.components) == 1 + others


@pytest.mark.parametrize(
    ("backend", "name"),
    [
        ("single", "parameter_server_count"),
        ("mpi", "worker_count"),
        ("mpi", "parameter_server_count"),
        ("collective", "parameter_server_count"),
        ("single", "process_count_per_node"),
        ("single", "worker_count"),
    ],
)
def test_a_count_that_the_backend_does_not_know_is_refused(
    source: Path, backend: str, name: str
) -> None:
    message = refused(source, distributed_backend=backend, **{name: 2})
    assert message.startswith(f"{name} is 2, but backend {backend!r} does not know it.")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"gpus_per_node": 5}, "gpus_per_node is 5, but target 'gpu' has 4 GPUs per node."),
        (
            {"gpus_per_node": 1, "distributed_backend": "mpi", "process_count_per_node": 2},
            "2 processes per node share 1 GPUs, but each is to have its own.",
        ),
        ({"use_gpu": True, "compute_target": "cpu"}, "use_gpu is set, but target 'cpu' has no"),
        ({"gpus_per_node": 1, "compute_target": "cpu"}, "gpus_per_node is 1, but target 'cpu'"),
    ],
)
def test_gpus_that_are_not_there_are_refused(
    source: Path, asked: dict[str, Any], words: str
) -> None:
    assert words in refused(source, RICH, **asked)


def test_gpus_are_asked_for_in_the_sites_own_form(source: Path) -> None:
    assert options(planned(source, RICH, use_gpu=True).plan)["gres"] == "gpu:a100:4"
    assert options(planned(source, RICH, gpus_per_node=2).plan)["gres"] == "gpu:a100:2"
    assert options(planned(source, gpus_per_node=2).plan)["gpus-per-node"] == "2"
    assert "gres" not in options(planned(source, RICH).plan)


def test_without_a_known_number_each_process_gets_one_gpu(source: Path) -> None:
    asked = {"distributed_backend": "mpi", "process_count_per_node": 3, "node_count": 2}
    plan = planned(source, use_gpu=True, **asked).plan
    assert plan.components[0].gpus_per_node == 3


def test_processes_may_share_gpus_that_are_not_pinned(source: Path) -> None:
    plan = planned(source, RICH, gpus_per_node=1, distributed_training=Mpi(2, pin_gpus=False)).plan
    assert (plan.pin_gpus, plan.components[0].gpus_per_node) == (False, 1)


def test_parameter_servers_go_to_their_own_target_without_gpus(source: Path) -> None:
    plan = planned(source, RICH, use_gpu=True, distributed_backend="ps", worker_count=2).plan
    assert options(plan)["partition"] == "gpu"
    ps = options(plan, 1)
    assert (ps["partition"], ps["cpus-per-task"], ps["mem"]) == ("cpu", "2", "8G")
    assert "gres" not in ps
    assert {role.name: role.uses_gpu for role in plan.roles} == {
        "chief": False,
        "worker": True,
        "ps": False,
    }


def test_an_unknown_target_is_refused_with_the_nearest(source: Path) -> None:
    message = refused(source, RICH, compute_target="gpuu")
    assert "Site 'rich' has no compute target 'gpuu'. Did you mean 'gpu'?" in message
    assert "Its targets: cpu, gpu, small." in message


def test_the_training_python_is_found_and_stays_a_link(source: Path, tmp_path: Path) -> None:
    link = tmp_path / "venv/bin/python"
    link.parent.mkdir(parents=True)
    link.symlink_to(sys.executable)
    plan = planned(source, python=str(link)).plan
    assert plan.entry.command == (str(link), "train.py")
    assert planned(source).plan.entry.python == sys.executable


@pytest.mark.parametrize("python", ["/nowhere/bin/python", "no-such-python", "", "."])
def test_a_python_that_is_not_there_is_refused(source: Path, python: str) -> None:
    assert f"python is {python!r}, but there is no such program." in refused(source, python=python)


def test_cpus_reach_the_step_of_the_component(source: Path) -> None:
    component = planned(source, RICH).plan.components[0]
    assert component == Component(1, 1, 8, 0, component.directives)


def test_a_script_that_is_not_python_must_be_executable(source: Path) -> None:
    project(source, "run.sh", "#!/bin/sh\n")

    def plan() -> Plan:
        estimator = TensorFlow(source, entry_script="run.sh", arguments=["-x"])
        where = {"run_id": "e_1_a", "experiment": "e", "run_folder": "/r"}
        return make_plan(estimator, load_site("slurm"), **where).plan

    with pytest.raises(UsageError, match=r"'run\.sh' is neither Python \(\.py\) nor executable"):
        plan()
    (source / "run.sh").chmod(0o755)
    assert plan().entry.command == ("./run.sh", "-x")
