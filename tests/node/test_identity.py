"""What a rank's environment says of the network and of the node's GPUs."""

from __future__ import annotations

from typing import Any

import pytest

from hpctf.errors import ClusterSpecError
from hpctf.node.identity import Identity, gpu_share, network
from tests.support.job_environments import STEP

OMPI = "OMPI_MCA_btl_tcp_if_include"


def plan_of(gpus: int, *directives: tuple[str, str], **changes: Any) -> dict[str, Any]:
    """Return as much of a plan as counts here: 5 ranks on two nodes."""
    return {
        "scheduler": "slurm",
        "roles": [{"name": "worker", "count": 5, "component": 0, "uses_gpu": True}],
        "components": [{"gpus_per_node": gpus, "directives": [list(one) for one in directives]}],
        "pin_gpus": True,
        **changes,
    }


def shares(plan: dict[str, Any], **env: str) -> list[dict[str, str]]:
    """Return what ranks 0 to 2, which share the node n1, see."""
    found = []
    for rank in range(3):
        own = {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURMD_NODENAME": "n1"}
        me = Identity(rank, rank, 5, "worker", rank, "n1")
        found.append(gpu_share(plan, me, {**STEP, **own, **env}))
    return found


def cuda(*values: str) -> list[dict[str, str]]:
    return [{"CUDA_VISIBLE_DEVICES": value} for value in values]


def test_gpus_that_slurm_was_not_asked_for_are_counted_and_shared() -> None:
    assert shares(plan_of(3)) == cuda("0", "1", "2")
    assert shares(plan_of(8)) == cuda("0,1", "2,3", "4,5")


def test_gpus_that_the_job_already_names_are_shared_as_they_are() -> None:
    assert shares(plan_of(3), CUDA_VISIBLE_DEVICES="3,5,7") == cuda("3", "5", "7")
    amd = shares(plan_of(3), ROCR_VISIBLE_DEVICES="3,5,7")
    assert amd == [{"ROCR_VISIBLE_DEVICES": one} for one in "357"]


@pytest.mark.parametrize("key", ["gres", "gpus-per-node", "gpus"])
def test_where_slurm_was_asked_but_names_none_nothing_is_made_up(key: str) -> None:
    assert shares(plan_of(3, (key, "gpu:3"))) == [{}, {}, {}]  # others may use the node's GPUs


def test_nothing_is_made_up_without_pinning_without_gpus_and_without_slurm() -> None:
    for plan in (plan_of(3, pin_gpus=False), plan_of(0), plan_of(3, scheduler="local")):
        assert shares(plan) == [{}, {}, {}]


BOUND = [
    {"SLURM_GPUS_PER_TASK": "1"},
    {"SLURM_GPUS_PER_TASK": "a100:1"},
    {"SLURM_NTASKS_PER_GPU": "2"},
    {"SLURM_TRES_PER_TASK": "cpu:4,gres/gpu:1"},
    {"SLURM_TRES_PER_TASK": "gres:gpu:1"},
    {"SLURM_GPU_BIND": "single:1"},
    {"SLURM_GPU_BIND": "verbose,single:2"},
    {"SLURM_GPU_BIND": "per_task:1"},
    {"SLURM_GPU_BIND": "map_gpu:1,0,1"},
    {"SLURM_GPU_BIND": "verbose,mask_gpu:0x3,0x3"},
    {"SLURM_TRES_BIND": "gres/gpu:single:1"},
    {"SLURM_TRES_BIND": "gres/gpu:verbose,per_task:1"},
    {"SLURM_TRES_BIND": "gres/gpu:map:0,1"},
    {"SLURM_TRES_BIND": "gres/gpu:mask:1,2"},
    {"SLURM_GPUS_ON_NODE": "8"},
]
"""What Slurm says to tasks whose GPUs it has chosen (srun(1), 22.05 to 25.11)."""

UNBOUND = [
    {"SLURM_GPUS_ON_NODE": "3", "SLURM_STEP_GPUS": "0,1,2", "SLURM_GPUS_PER_NODE": "3"},
    {"SLURM_GPUS_ON_NODE": "3", "SLURM_GPU_BIND": "closest"},
    {"SLURM_GPU_BIND": "none"},
    {"SLURM_GPU_BIND": "verbose"},
    {"SLURM_TRES_PER_TASK": "cpu:4"},
    {"SLURM_TRES_BIND": "gres/gpu:closest"},
]


@pytest.mark.parametrize("env", BOUND, ids=str)
def test_gpus_that_slurm_has_given_to_each_rank_stay_as_they_are(env: dict[str, str]) -> None:
    assert shares(plan_of(3), CUDA_VISIBLE_DEVICES="0", **env) == [{}, {}, {}]
    assert shares(plan_of(3), CUDA_VISIBLE_DEVICES="0,1,2", **env) == [{}, {}, {}]
    server = plan_of(3)
    server["roles"][0]["uses_gpu"] = False
    assert shares(server, CUDA_VISIBLE_DEVICES="0", **env)[0]["CUDA_VISIBLE_DEVICES"] == ""


@pytest.mark.parametrize("env", UNBOUND, ids=str)
def test_gpus_that_all_ranks_of_a_node_see_are_shared(env: dict[str, str]) -> None:
    assert shares(plan_of(3), CUDA_VISIBLE_DEVICES="0,1,2", **env) == cuda("0", "1", "2")


def test_fewer_gpus_than_ranks_are_an_error_of_the_rank_that_has_none() -> None:
    with pytest.raises(ClusterSpecError, match="share 2 GPUs"):
        shares(plan_of(2))


def test_the_sites_interfaces_are_named_where_nobody_has() -> None:
    plan = {"interfaces": ["ib0", "ib1"]}
    said = network(plan, {})
    assert said == dict.fromkeys(("NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME", OMPI), "ib0,ib1")
    assert OMPI not in network(plan, {"OMPI_MCA_btl_tcp_if_exclude": "lo"})
    assert network({"interfaces": []}, {}) == {}
