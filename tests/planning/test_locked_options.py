"""Locked keys of a site hold against what a person asks for, too: estimator and command line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpctf import Mpi, ParameterServer
from hpctf.errors import SiteError
from hpctf.site.model import PsSettings, Site, Target
from tests.support.projects import hpctf, planned, project, site_of

SITE = Site(
    name="locking",
    targets={
        "default": Target(
            partition="gpu",
            mem="8G",
            cpus_per_task=4,
            gpus=2,
            time_limit="30",
            directives={"exclusive": True},
        )
    },
    directives={"comment": "ours", "time": "10"},
)
T = "targets.default"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return project(tmp_path / "proj")


@pytest.mark.parametrize(
    ("lock", "asked", "option"),
    [
        (f"{T}.partition", {"sbatch": {"partition": "x"}}, "--sbatch partition"),
        (f"{T}.partition", {"sbatch": {"--part": "x"}}, "--sbatch part"),
        (f"{T}.mem", {"mem": "9G"}, "mem (--mem)"),
        (f"{T}.mem", {"sbatch": {"mem_per_cpu": "9G"}}, "--sbatch mem-per-cpu"),
        (f"{T}.gpus", {"sbatch": {"gres": "gpu:8"}}, "--sbatch gres"),
        (f"{T}.gpus", {"gpus_per_node": 1}, "gpus_per_node (--gpus-per-node)"),
        (f"{T}.cpus_per_task", {"cpus_per_task": 2}, "cpus_per_task (--cpus-per-task)"),
        (f"{T}.time_limit", {"max_run_duration_seconds": 60}, "max_run_duration_seconds (--time)"),
        ("directives.time", {"max_run_duration_seconds": 60}, "max_run_duration_seconds (--time)"),
        (T, {"mem": "9G"}, "mem (--mem)"),
        ("targets", {"sbatch": {"qos": "x"}}, "--sbatch qos"),
        (f"{T}.directives", {"sbatch": {"exclusive": False}}, "--sbatch exclusive"),
        (f"{T}.directives.exclusive", {"sbatch": {"exclusive": False}}, "--sbatch exclusive"),
        (f"{T}.directives.exclusive", {"sbatch": {"exclu": False}}, "--sbatch exclu"),
        ("directives", {"sbatch": {"reservation": "x"}}, "--sbatch reservation"),
        ("directives.comment", {"sbatch": {"comment": "mine"}}, "--sbatch comment"),
        (
            "pin_gpus",
            {"distributed_training": Mpi(pin_gpus=False)},
            "pin_gpus (--pin-gpus, --no-pin-gpus)",
        ),
        ("azureml", {"azureml": False}, "azureml (--no-azureml)"),
        (
            "ps.placement",
            {"distributed_training": ParameterServer(placement="shared")},
            "placement (--ps-placement)",
        ),
        ("warning.grace_s", {"grace_seconds": 5}, "grace_seconds (--grace)"),
        ("warning", {"grace_seconds": 5}, "grace_seconds (--grace)"),
    ],
)
def test_an_option_that_would_change_a_locked_key_is_refused_with_the_lock(
    source: Path, lock: str, asked: dict[str, Any], option: str
) -> None:
    with pytest.raises(SiteError) as caught:
        planned(source, site_of(SITE, locked=(lock,)), **asked)
    assert caught.value.message.startswith(f"{option}: site 'locking' has locked {lock}, ")
    assert f"hpctf site explain {lock}" in str(caught.value.hint)
    planned(source, SITE, **asked)


def test_what_changes_nothing_locked_is_allowed(source: Path) -> None:
    same = {
        "mem": "8G",
        "cpus_per_task": 4,
        "gpus_per_node": 2,
        "max_run_duration_seconds": 1800,
        "sbatch": {"partition": "gpu"},
        "distributed_training": Mpi(pin_gpus=True),
    }
    planned(source, site_of(SITE, locked=(f"{T}.partition", f"{T}.mem", "pin_gpus")), **same)
    other = site_of(SITE, locked=(f"{T}.partition", "directives.comment", "ps.placement"))
    planned(source, other, mem="9G", sbatch={"reservation": "x"}, grace_seconds=5)


def test_the_target_of_the_parameter_servers_is_held_too(source: Path) -> None:
    targets = {**SITE.targets, "small": Target(partition="small", mem="1G")}
    site = site_of(SITE, targets=targets, ps=PsSettings(target="small"))
    site = site_of(site, locked=("targets.small.mem",))
    planned(source, site, mem="9G")
    with pytest.raises(SiteError, match=r"has locked targets\.small\.mem"):
        planned(source, site, mem="9G", distributed_backend="ps")


def test_the_command_line_is_held_as_the_estimator_is_and_writes_nothing(tmp_path: Path) -> None:
    project(tmp_path / "proj")
    (tmp_path / "site.yaml").write_text(
        "name: held\ntargets: {default: {partition: gpu}}\nlocked: [targets.default.partition]\n"
    )
    words = ("submit", "--site", "./site.yaml", "--sbatch", "partition=x", "proj/train.py")
    done = hpctf(*words, cwd=tmp_path)
    assert done.returncode == 3
    assert "--sbatch partition: site 'held' has locked targets.default.partition" in done.stderr
    assert "hpctf site explain targets.default.partition" in done.stderr
    assert not (tmp_path / "runs").exists()
