"""srun reserves ports where the site says so, and where something uses them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from hpctf import ParameterServer
from hpctf.plan import Plan
from hpctf.site.model import PortRange
from hpctf.submission.script import render
from tests.support.projects import planned, project, site_of

RESERVED = PortRange(reserved=True)


def plan_of(folder: Path, site: str, **asked: Any) -> Plan:
    """Plan a training on a site that reserves ports."""
    return planned(project(folder / "proj"), site_of(site, ports=RESERVED), **asked).plan


@pytest.mark.parametrize(
    ("asked", "counts"),
    [
        ({"distributed_backend": "collective", "node_count": 2}, ["1"]),
        (
            {
                "distributed_backend": "collective",
                "node_count": 2,
                "process_count_per_node": 3,
            },
            ["3"],
        ),
        (
            {"distributed_training": ParameterServer(6, 2, placement="hetjob"), "node_count": 4},
            ["3", "2"],
        ),
        (
            {"distributed_training": ParameterServer(2, 2, placement="shared"), "node_count": 2},
            ["3"],
        ),
    ],
    ids=["collective", "several a node", "hetjob", "shared"],
)
def test_each_component_reserves_the_most_tasks_on_a_node(
    tmp_path: Path, asked: dict[str, Any], counts: list[str]
) -> None:
    script = render(plan_of(tmp_path, "slurm", **asked))
    assert re.findall(r"--resv-ports=(\d+)", script) == counts


@pytest.mark.parametrize(
    ("site", "asked"),
    [
        ("slurm", {"distributed_backend": "mpi", "node_count": 2}),
        ("slurm", {}),
        ("slurm-mpirun", {"distributed_backend": "mpi", "node_count": 2}),
        ("local", {"distributed_backend": "collective", "worker_count": 2}),
    ],
    ids=["mpi", "single", "mpirun", "local"],
)
def test_what_has_no_use_for_ports_or_no_srun_reserves_none(
    tmp_path: Path, site: str, asked: dict[str, Any]
) -> None:
    plan = plan_of(tmp_path, site, **asked)
    assert not plan.reserved_ports
    assert plan.scheduler == "local" or "resv-ports" not in render(plan)


def test_nothing_is_reserved_unless_the_site_says_so(tmp_path: Path) -> None:
    plain = planned(project(tmp_path), distributed_backend="collective", node_count=2).plan
    assert not plain.reserved_ports
    assert "resv-ports" not in render(plain)
