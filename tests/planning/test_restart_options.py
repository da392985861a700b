"""What a person says of restarts, and what becomes of it in the batch script and the plan."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from hpctf import ParameterServer, TensorFlow, UsageError
from tests.support.projects import hpctf, options, planned, project, site_of


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return project(tmp_path / "proj")


def test_nothing_is_asked_of_slurm_unless_restarts_are(source: Path) -> None:
    plan = planned(source, max_run_duration_seconds=3600).plan
    assert not options(plan).keys() & {"requeue", "no-requeue", "signal"}
    assert (plan.interruption.signal, plan.interruption.max_restarts) == (None, 0)


def test_restarts_are_asked_for_with_a_warning_before_the_grace(source: Path) -> None:
    plan = planned(source, max_restarts=3, max_run_duration_seconds=3600).plan
    assert options(plan)["requeue"] == ""
    assert options(plan)["signal"] == "USR2@75"  # 60 s of grace, and 15 s to be requeued
    assert (plan.interruption.max_restarts, plan.interruption.tell) == (3, "TERM")


def test_the_batch_script_is_warned_where_mpirun_starts_the_ranks(source: Path) -> None:
    asked: dict[str, Any] = {"max_restarts": 1, "node_count": 2, "distributed_backend": "mpi"}
    assert options(planned(source, "slurm-mpirun", **asked).plan)["signal"] == "B:USR2@75"
    assert options(planned(source, "slurm", **asked).plan)["signal"] == "USR2@75"


def test_every_component_may_be_requeued_and_the_first_is_warned_for_all(source: Path) -> None:
    plan = planned(source, max_restarts=1, distributed_backend="ps").plan
    first, second = options(plan, 0), options(plan, 1)
    assert "requeue" in first and "requeue" in second
    assert "signal" in first and "signal" not in second


def test_no_restarts_forbid_slurms_own(source: Path) -> None:
    said = options(planned(source, max_restarts=0).plan)
    assert said["no-requeue"] == "" and "signal" not in said


def test_the_usual_grace_leaves_most_of_a_short_time_to_the_training(source: Path) -> None:
    plan = planned(source, max_restarts=1, max_run_duration_seconds=90).plan
    assert plan.interruption.grace_s == 30


def test_the_site_says_signal_and_grace(source: Path) -> None:
    from hpctf.site.model import WarningSettings

    site = site_of(warning=WarningSettings(signal="USR1", grace_s=300))
    plan = planned(source, site, max_restarts=1, warning_signal="SIGUSR2").plan
    assert options(plan)["signal"] == "USR1@315"
    assert (plan.interruption.tell, plan.interruption.grace_s) == ("USR2", 300)


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"max_restarts": -1}, "max_restarts is -1"),
        ({"max_restarts": True}, "max_restarts is True"),
        ({"grace_seconds": 0}, "grace_seconds is 0"),
        ({"warning_signal": "SIGKILL"}, "warning_signal is 'SIGKILL'"),
        ({"warning_signal": "SIGTREM"}, "Did you mean 'SIGTERM'?"),
        (
            {"grace_seconds": 50, "max_run_duration_seconds": 60},
            "grace_seconds is 50, but the time",
        ),
        ({"max_restarts": 1, "sbatch": {"signal": "TERM@9"}}, "--sbatch signal: hpctf sets it"),
        ({"max_restarts": 0, "sbatch": {"no_requeue": True}}, "--sbatch no-requeue: hpctf sets it"),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(source: Path, asked: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError) as caught:
        planned(source, **asked)
    assert message in str(caught.value)


def test_a_job_file_says_restarts_in_the_options_names(tmp_path: Path) -> None:
    project(tmp_path)
    (tmp_path / "job.yaml").write_text(
        "script: train.py\nmax-restarts: 2\ngrace: 30\nwarn-with: usr1\ntime: 60\n"
    )
    done = hpctf("submit", "--dry-run", "--site", "slurm", "--json", "job.yaml", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    rules = json.loads(done.stdout)["plan"]["interruption"]
    assert rules == {"signal": "USR2", "tell": "USR1", "grace_s": 30, "max_restarts": 2}


def test_workers_come_back_only_where_a_chief_decides(source: Path) -> None:
    training = ParameterServer(worker_count=2, max_worker_restarts=3)
    roles = {role.name: role for role in planned(source, distributed_training=training).plan.roles}
    assert {name: role.max_restarts for name, role in roles.items()} == {
        "chief": 0,
        "worker": 3,
        "ps": 0,
    }
    assert roles["ps"].serves and roles["worker"].serves and not roles["chief"].serves
    with pytest.raises(UsageError, match="chief is False"):
        TensorFlow(
            source,
            entry_script="train.py",
            distributed_training=ParameterServer(
                coordinator=False, chief=False, max_worker_restarts=1
            ),
        )
