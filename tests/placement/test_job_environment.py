"""Who a task is and where the others are, from the environments of real tasks."""

from __future__ import annotations

import pytest

from hpctf.errors import ClusterSpecError
from hpctf.placement.hostlist import Task
from hpctf.placement.job_environment import (
    local_rank_from_environment,
    rank_from_environment,
    tasks_from_environment,
    world_size_from_environment,
)
from tests.support.job_environments import (
    BATCH,
    HET_BATCH,
    HET_STEP,
    LOCAL,
    MPIRUN,
    MPIRUN_FIRST_HOST,
    STEP,
    hosts_by_rank,
)


def test_tasks_of_a_step() -> None:
    assert hosts_by_rank(STEP) == "n1 n1 n1 n2 n2"
    assert tasks_from_environment(STEP)[4] == Task(rank=4, host="n2", local_rank=1)


@pytest.mark.parametrize(
    ("distribution", "rank", "expected"),
    [
        ({"SLURM_DISTRIBUTION": "cyclic"}, "1", "n1 n2 n1 n2 n1"),
        ({"SLURM_DISTRIBUTION": "plane", "SLURM_DIST_PLANESIZE": "2"}, "2", "n1 n1 n2 n2 n1"),
        ({"SLURM_DISTRIBUTION": "plane=2"}, "2", "n1 n1 n2 n2 n1"),
        ({"SLURM_DISTRIBUTION": "block:cyclic"}, "3", "n1 n1 n1 n2 n2"),
        ({"SLURM_DISTRIBUTION": "*"}, "3", "n1 n1 n1 n2 n2"),
    ],
)
def test_tasks_of_a_step_with_another_distribution(
    distribution: dict[str, str], rank: str, expected: str
) -> None:
    assert hosts_by_rank({**STEP, "SLURM_PROCID": rank, **distribution}) == expected


def test_arbitrary_distribution_is_refused() -> None:
    with pytest.raises(ClusterSpecError, match="distribution 'arbitrary' is not block"):
        tasks_from_environment({**STEP, "SLURM_DISTRIBUTION": "arbitrary"})


def test_a_step_on_part_of_the_job_has_its_own_hosts_only() -> None:
    part = {"SLURM_STEP_NODELIST": "n2", "SLURM_STEP_TASKS_PER_NODE": "2", "SLURM_PROCID": "0"}
    assert hosts_by_rank({**STEP, **part}) == "n2 n2"


def test_tasks_seen_from_the_batch_script() -> None:
    assert hosts_by_rank(BATCH) == "n1 n1 n1 n2 n2"


@pytest.mark.parametrize("step", ["4294967291", "batch", "4294967290", "interactive"])
def test_slurms_own_steps_count_as_the_batch_script(step: str) -> None:
    own = {"SLURM_STEP_NODELIST": "n1", "SLURM_STEP_TASKS_PER_NODE": "1", "SLURM_STEP_ID": step}
    assert hosts_by_rank({**BATCH, **own}) == "n1 n1 n1 n2 n2"


def test_a_batch_script_that_cannot_know_where_srun_puts_tasks_says_so() -> None:
    # sbatch -N2 --ntasks=5 --ntasks-per-node=4: srun starts 3 and 2
    with pytest.raises(ClusterSpecError, match="SLURM_NTASKS is 5, but SLURM_TASKS_PER_NODE mak"):
        tasks_from_environment({**BATCH, "SLURM_TASKS_PER_NODE": "4(x2)"})


def test_tasks_of_a_het_job_in_its_batch_script() -> None:
    assert hosts_by_rank(HET_BATCH) == "n3 n3 n1 n1 n1 n2"
    assert world_size_from_environment(HET_BATCH) == 6


def test_tasks_of_a_het_step_follow_the_components_though_slurm_sorts_the_hosts() -> None:
    assert hosts_by_rank(HET_STEP) == "n3 n3 n1 n1 n1 n2"
    assert world_size_from_environment(HET_STEP) == 6
    assert rank_from_environment(HET_STEP) == 2


def test_a_cyclic_het_step_goes_round_within_each_component() -> None:
    # srun -m cyclic --het-group=0,1
    assert hosts_by_rank({**HET_STEP, "SLURM_DISTRIBUTION": "cyclic"}) == "n3 n3 n1 n2 n1 n1"


def test_a_step_of_one_component_has_ranks_from_zero() -> None:
    alone = {
        "SLURM_PROCID": "3",
        "SLURMD_NODENAME": "n2",
        "SLURM_STEP_NODELIST": "n[1-2]",
        "SLURM_STEP_NUM_TASKS": "4",
        "SLURM_STEP_TASKS_PER_NODE": "3,1",
    }
    assert hosts_by_rank({**HET_STEP, **alone}) == "n1 n1 n1 n2"


def test_a_plain_job_submitted_by_a_het_job_does_not_take_the_outer_job_for_its_own() -> None:
    outer = {name: value for name, value in HET_BATCH.items() if "HET" in name}
    assert hosts_by_rank({**outer, **BATCH}) == "n1 n1 n1 n2 n2"
    assert hosts_by_rank({**outer, **STEP}) == "n1 n1 n1 n2 n2"


def test_a_het_step_inside_one_allocation_is_refused_for_its_order_is_unknown() -> None:
    # srun -w n3 A : -w n[1-2] B in a plain job: rank 0 is on n3, Slurm says n[1-3]
    unknown = {
        "SLURMD_NODENAME": "n3",
        "SLURM_LOCALID": "0",
        "SLURM_PROCID": "0",
        "SLURM_STEP_NODELIST": "n[1-3]",
        "SLURM_STEP_TASKS_PER_NODE": "1(x3)",
    }
    with pytest.raises(ClusterSpecError, match=r"rank 0 should be task 0 of host n1 .* host n3"):
        tasks_from_environment({**STEP, **unknown})


def test_tasks_under_mpirun_are_not_those_of_its_daemons() -> None:
    expected = "n1 n1 n1 n1 n2 n2 n2 n2"
    assert hosts_by_rank(MPIRUN) == expected
    assert hosts_by_rank(MPIRUN_FIRST_HOST) == expected


def test_all_ranks_of_mpirun_on_one_host() -> None:
    assert hosts_by_rank({**MPIRUN_FIRST_HOST, "OMPI_COMM_WORLD_SIZE": "4"}) == "n1 n1 n1 n1"
    ranks = {name: value for name, value in MPIRUN_FIRST_HOST.items() if "OMPI" in name}
    assert hosts_by_rank({**ranks, "OMPI_COMM_WORLD_SIZE": "4"}) == " ".join(["localhost"] * 4)


def test_uneven_ranks_of_mpirun_are_refused() -> None:
    with pytest.raises(ClusterSpecError, match="mpirun started 5 ranks, 4 of them on this host"):
        tasks_from_environment({**MPIRUN_FIRST_HOST, "OMPI_COMM_WORLD_SIZE": "5"})


def test_mpirun_that_does_not_fill_host_after_host_is_refused() -> None:
    by_node = {"OMPI_COMM_WORLD_RANK": "2"}  # mpirun --map-by node: ranks 0, 2, 4, 6 are on n1
    with pytest.raises(ClusterSpecError, match=r"rank 2 should be task 2 of host n1 .* task 1 of"):
        tasks_from_environment({**MPIRUN_FIRST_HOST, **by_node})


def test_mpi_ranks_that_srun_started_are_the_tasks_of_the_step() -> None:
    initialised = {"OMPI_COMM_WORLD_RANK": "3", "OMPI_COMM_WORLD_SIZE": "5"}
    assert hosts_by_rank({**STEP, **initialised}) == "n1 n1 n1 n2 n2"


def test_ranks_of_mpiexec_of_mpich() -> None:
    hydra = {
        **BATCH,  # copied from mpiexec's host to all ranks
        "MPI_LOCALNRANKS": "2",
        "MPI_LOCALRANKID": "1",
        "PMI_RANK": "3",
        "PMI_SIZE": "4",
    }
    assert rank_from_environment(hydra) == 3
    assert local_rank_from_environment(hydra) == 1
    assert world_size_from_environment(hydra) == 4
    assert hosts_by_rank(hydra) == "n1 n1 n2 n2"


def test_local_tasks_are_on_localhost() -> None:
    assert hosts_by_rank(LOCAL) == "localhost localhost localhost"
    assert hosts_by_rank({**STEP, **LOCAL}) == "localhost localhost localhost", "on a compute node"


def test_a_slurm_job_submitted_by_a_local_run_is_a_slurm_job() -> None:
    assert hosts_by_rank({**LOCAL, **STEP, "SUBMITIT_EXECUTOR": "slurm"}) == "n1 n1 n1 n2 n2"


@pytest.mark.parametrize("env", [{}, {"HOME": "/root"}, {"SLURM_CONF": "/etc/slurm/slurm.conf"}])
def test_outside_a_job_it_says_to_run_inside_one(env: dict[str, str]) -> None:
    with pytest.raises(ClusterSpecError, match=r"inside a Slurm job.*or give the tasks"):
        tasks_from_environment(env)


def test_a_variable_that_slurm_did_not_write_is_named() -> None:
    with pytest.raises(ClusterSpecError) as refusal:
        tasks_from_environment({**STEP, "SLURM_STEP_TASKS_PER_NODE": "3"})
    assert "SLURM_STEP_NODELIST, SLURM_STEP_TASKS_PER_NODE: host list 'n[1-2]' has 2" in str(
        refusal.value
    )
    with pytest.raises(ClusterSpecError, match="SLURM_PROCID is 'three'"):
        rank_from_environment({**STEP, "SLURM_PROCID": "three"})
    with pytest.raises(ClusterSpecError, match=r"this is rank 7, but .* tell of 5 tasks only"):
        tasks_from_environment({**STEP, "SLURM_PROCID": "7"})


# -- who this task is ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("env", "rank", "local_rank", "world_size"),
    [
        (STEP, 3, 0, 5),
        (BATCH, 0, 0, 5),
        (HET_STEP, 2, 0, 6),
        (MPIRUN, 5, 1, 8),
        (MPIRUN_FIRST_HOST, 1, 1, 8),
        (LOCAL, 1, 1, 3),
    ],
    ids=["step", "batch", "het step", "mpirun", "mpirun's host", "local"],
)
def test_who_a_task_is(env: dict[str, str], rank: int, local_rank: int, world_size: int) -> None:
    assert rank_from_environment(env) == rank
    assert local_rank_from_environment(env) == local_rank
    assert world_size_from_environment(env) == world_size


def test_nobody_is_a_task_outside_a_job() -> None:
    with pytest.raises(ClusterSpecError, match="the rank is unknown: SLURM_PROCID or PMIX_RANK"):
        rank_from_environment({})
