"""What a training process is in its run, as its environment tells."""

from __future__ import annotations

import json

import pytest

from hpctf.client.hpctf.task import Task, current_task


def config(role: str, index: int, **tasks: int) -> str:
    cluster = {name: [f"n{i}:20000" for i in range(count)] for name, count in tasks.items()}
    return json.dumps({"cluster": cluster, "task": {"type": role, "index": index}})


@pytest.mark.parametrize(
    ("environ", "expected"),
    [
        ({}, Task("single", "worker", 0, 1)),
        (
            {"HPCTF_BACKEND": "single", "HPCTF_RANK": "0", "TF_CONFIG": "?"},
            Task("single", "worker", 0, 1),
        ),
        (
            {"HPCTF_BACKEND": "mpi", "HPCTF_RANK": "3", "HPCTF_WORLD_SIZE": "4"},
            Task("mpi", "worker", 3, 4),
        ),
        (
            {"HPCTF_BACKEND": "collective", "TF_CONFIG": config("worker", 1, worker=3)},
            Task("collective", "worker", 1, 3),
        ),
        (
            {"HPCTF_BACKEND": "collective", "TF_CONFIG": config("worker", 1, chief=1, worker=2)},
            Task("collective", "worker", 2, 3),
        ),
        (
            {"HPCTF_BACKEND": "ps", "TF_CONFIG": config("chief", 0, chief=1, worker=2, ps=1)},
            Task("ps", "chief", 0, 2),
        ),
        (
            {"HPCTF_BACKEND": "ps", "TF_CONFIG": config("worker", 1, worker=2, ps=1)},
            Task("ps", "worker", 1, 2),
        ),
    ],
)
def test_a_task_knows_its_rank_among_those_that_train(
    environ: dict[str, str], expected: Task
) -> None:
    assert current_task(environ) == expected


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", config("worker", 2, worker=2)])
def test_a_backend_without_its_tf_config_is_told_so(text: str) -> None:
    with pytest.raises(RuntimeError, match="The backend is ps, but TF_CONFIG is") as raised:
        current_task({"HPCTF_BACKEND": "ps", "TF_CONFIG": text})
    assert "leave it as it is" in str(raised.value)


def test_an_unknown_backend_is_refused() -> None:
    with pytest.raises(ValueError, match=r"HPCTF_BACKEND=nccl.*single, mpi, ps, collective"):
        current_task({"HPCTF_BACKEND": "nccl"})


def test_the_data_of_one_process_are_all_its_own() -> None:
    from hpctf import shard

    data = object()
    assert shard(data) is data
