"""What a run has used against what it asked for, from its samples and its plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hpctf.common.units import bytes_of
from hpctf.tracking.efficiency import Efficiency, Requested, asked, efficiency

GB = 1 << 30


def plan_of(
    *directives: tuple[str, str], tasks: int = 2, nodes: int = 1, **more: Any
) -> dict[str, Any]:
    component = {"nodes": nodes, "tasks": tasks, "cpus_per_task": None, "gpus_per_node": 0, **more}
    component["directives"] = [list(one) for one in directives]
    return {
        "scheduler": "slurm",
        "roles": [{"name": "worker", "count": tasks, "component": 0}],
        "components": [component],
    }


def write(folder: Path, rank: str, host: str, rows: list[dict[str, Any]], **opened: Any) -> None:
    """Write a rank's samples, one each 10 s."""
    path = folder / "metrics" / "system" / f"{rank}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    records = [{"opened": {"host": host, "every_s": 10, **opened}, "time": 1000.0}]
    records += [
        {"name": "system", "row": row, "time": 1010.0 + 10 * number}
        for number, row in enumerate(rows)
    ]
    with path.open("a") as stream:
        stream.writelines(json.dumps(record) + "\n" for record in records)


def used_by(folder: Path, plan: dict[str, Any]) -> Efficiency:
    found = efficiency(folder, plan)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("text", "size"),
    [("64G", 64 * GB), ("2000", 2000 << 20), ("1T", 1024 * GB), ("0", None), ("", None)],
)
def test_sizes_are_read_as_slurm_writes_them(text: str, size: int | None) -> None:
    assert bytes_of(text) == size


@pytest.mark.parametrize(
    ("plan", "expected"),
    [
        (plan_of(("mem", "64G"), cpus_per_task=4), Requested(8, 64 * GB, 0)),
        (plan_of(("mem", "64G"), nodes=2), Requested(1, 64 * GB, 0)),
        (plan_of(("mem-per-cpu", "2G"), cpus_per_task=3), Requested(6, 12 * GB, 0)),
        (
            plan_of(("mem-per-gpu", "10G"), ("cpus-per-gpu", "8"), gpus_per_node=4),
            Requested(32, 40 * GB, 4),
        ),
        (plan_of(), Requested(2, None, 0)),
        (plan_of(("exclusive", ""), ("mem", "0")), Requested(None, None, 0)),
        ({**plan_of(("mem", "64G")), "scheduler": "local"}, Requested(None, None, 0)),
    ],
)
def test_what_a_node_was_asked_for(plan: dict[str, Any], expected: Requested) -> None:
    assert asked(plan, "worker") == expected


def test_ranks_of_a_node_are_added_up(tmp_path: Path) -> None:
    row = {"cpu": 1.0, "memory": GB, "memory_peak": GB}
    write(tmp_path, "worker-0", "n1", [row, {**row, "cpu": 2.0}])
    write(tmp_path, "worker-1", "n1", [row, {**row, "memory_peak": 2 * GB}])
    (node,) = used_by(tmp_path, plan_of(("mem", "64G"), cpus_per_task=2)).nodes
    assert (node.cpu_mean, node.cpu_peak, node.cpu_asked) == (2.5, 3.0, 4)
    assert (node.memory_peak, node.memory_asked) == (3 * GB, 64 * GB)
    assert str(node) == "2.5 of 4 cores on average, 3 GB of 64 GB of memory"


def test_the_fullest_node_is_told_of_several(tmp_path: Path) -> None:
    write(tmp_path, "worker-0", "n1", [{"cpu": 1.0, "memory": GB}])
    write(tmp_path, "worker-1", "n2", [{"cpu": 0.5, "memory": 5 * GB}])
    used = used_by(tmp_path, plan_of(("mem", "8G"), nodes=2))
    assert str(used) == "1.5 of 2 cores on average, 5 GB of 8 GB of memory on n2"


def test_a_gpu_that_two_ranks_see_is_counted_once(tmp_path: Path) -> None:
    gpu = {"cpu": 1.0, "gpu0_memory": 30 * GB, "gpu0_memory_total": 80 * GB}
    for rank, use in (("worker-0", 40), ("worker-1", 60)):
        rows = [{**gpu, "gpu0_use": use}, {**gpu, "gpu0_use": use}]
        write(tmp_path, rank, "n1", rows, gpus=["A100 GPU-1"])
    (node,) = used_by(tmp_path, plan_of(gpus_per_node=1)).nodes
    assert (node.gpu_use, node.gpus_asked) == (50.0, 1)
    assert str(node).endswith("GPUs busy 50 % of the time, 30 GB of 80 GB of a GPU's memory")


def test_energy_is_that_of_each_gpu_once_over_all_starts(tmp_path: Path) -> None:
    gpu = {"gpu0_use": 50, "gpu1_use": 50}
    rows = [{**gpu, "gpu0_energy": n * 900_000, "gpu1_energy": n * 900_000} for n in (1, 2)]
    for rank in ("worker-0", "worker-1"):
        write(tmp_path, rank, "n1", rows, gpus=["A100 GPU-1", "A100 GPU-2"])
        write(tmp_path, rank, "n1", rows[:1], gpus=["A100 GPU-1", "A100 GPU-2"])
    used = used_by(tmp_path, {**plan_of(gpus_per_node=2), "co2_g_per_kwh": 400})
    assert used.gpu_energy == 2 * (1_800_000 + 900_000)
    assert used.co2_g == pytest.approx(600)
    assert "1.5 kWh by the GPUs (0.6 kg of CO2)" in str(used)
    plain = used_by(tmp_path, plan_of(gpus_per_node=2))
    assert plain.co2_g is None
    assert str(plain).endswith("1.5 kWh by the GPUs")


def test_energy_that_is_known_of_some_nodes_alone_is_not_told(tmp_path: Path) -> None:
    write(tmp_path, "worker-0", "n1", [{"gpu0_use": 50, "gpu0_energy": 900_000}], gpus=["A"])
    write(tmp_path, "worker-1", "n2", [{"gpu0_use": 50}], gpus=["B"])
    used = used_by(tmp_path, plan_of(nodes=2, gpus_per_node=1))
    assert used.gpu_energy is None
    assert "kWh" not in str(used)


@pytest.mark.parametrize(
    ("sensor", "joules", "words"),
    [
        ("pm_counters", 720_000, "0.2 kWh by the nodes, 0.1 kWh of it by the GPUs (0.08 kg"),
        ("ipmi", 720_000, "0.2 kWh by the nodes, 0.1 kWh of it by the GPUs (0.08 kg"),
        ("rapl", 720_000, "0.2 kWh by the CPUs and their memory, 0.1 kWh by the GPUs (0.12 kg"),
        ("gpu", 360_000, "0.1 kWh by the GPUs (0.04 kg"),
        ("pm_counters", None, "0.1 kWh by the GPUs (0.04 kg"),
    ],
)
def test_what_slurm_measured_is_told_beside_the_gpus(
    tmp_path: Path, sensor: str, joules: int | None, words: str
) -> None:
    write(tmp_path, "worker-0", "n1", [{"gpu0_use": 50, "gpu0_energy": 360_000}], gpus=["A"])
    plan = {**plan_of(gpus_per_node=1), "co2_g_per_kwh": 400, "node_energy": sensor}
    assert words in str(efficiency(tmp_path, plan, joules))


def test_the_energy_of_cpus_alone_is_not_the_co2_of_a_node_with_gpus(tmp_path: Path) -> None:
    plan = {**plan_of(gpus_per_node=1), "co2_g_per_kwh": 400, "node_energy": "rapl"}
    write(tmp_path, "worker-0", "n1", [{"gpu0_use": 50}], gpus=["A"])
    used = efficiency(tmp_path, plan, 360_000)
    assert used is not None and used.co2_g is None
    assert str(used).endswith("0.1 kWh by the CPUs and their memory")


def test_a_rank_that_came_back_elsewhere_counts_on_both_nodes(tmp_path: Path) -> None:
    write(tmp_path, "worker-0", "n1", [{"cpu": 4.0, "memory": GB}])
    write(tmp_path, "worker-0", "n2", [{"cpu": 2.0, "memory": GB}])
    used = used_by(tmp_path, plan_of(tasks=1, cpus_per_task=4))
    assert [(node.host, node.cpu_mean, node.seconds) for node in used.nodes] == [
        ("n1", 4.0, 10.0),
        ("n2", 2.0, 10.0),
    ]


def test_a_run_without_samples_has_no_answer(tmp_path: Path) -> None:
    assert efficiency(tmp_path, plan_of()) is None
