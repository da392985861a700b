"""A study's run has Azure ML's methods, with Azure ML's arguments."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import pytest

from hpctf import HyperDriveConfig, HyperDriveRun, TensorFlow
from hpctf.errors import UsageError
from hpctf.estimator.request import request_of
from hpctf.run_folder.layout import RunFolder
from hpctf.tuning.expressions import uniform
from hpctf.tuning.policies import BanditPolicy
from hpctf.tuning.sampling import RandomParameterSampling
from hpctf.tuning.study import Study, write_study
from hpctf.tuning.submit import define
from tests.support.projects import project

VALUES = {0: ("completed", 0.5), 1: ("stopped", 0.9), 2: ("failed", 0.95), 3: ("completed", None)}
"""How trials have ended, and their best values."""


@pytest.fixture
def run(tmp_path: Path) -> HyperDriveRun:
    """A study of which four trials have ended, one runs, and one has not begun."""
    estimator = TensorFlow(project(tmp_path / "proj"), entry_script="train.py")
    config = HyperDriveConfig(
        RandomParameterSampling({"lr": uniform(0, 1)}),
        *("acc", "maximize", 6, 2, 60, BanditPolicy(slack_factor=0.1)),
        estimator=estimator,
    )
    folder = RunFolder(tmp_path / "runs/e/s_1_ab")
    folder.make([("worker", 0)])
    project(folder.snapshot)
    folder.record_file.write_text(json.dumps({"id": "s_1_ab", "request": request_of(estimator)}))
    write_study(folder, *define(config, seed=1))
    study = Study(folder)
    study.ledger.append("submitted", submission=0, agents=2)
    for number in range(5):
        study.ledger.claim(number, 0, "n1", "7_0")
        trial = study.trial(number)
        trial.make([("worker", 0)])
        trial.record_file.write_text(json.dumps({"id": trial.id}))
        state, value = VALUES.get(number, ("running", 0.1))
        if value is not None:
            study.ledger.log(number, 0, [(0, value)])
            logged = {"name": "acc", "value": value, "step": 0, "time": 1.0}
            (trial.metrics / "worker-0.jsonl").write_text(json.dumps(logged) + "\n")
        if state != "running":
            study.ledger.end(number, 0, state)
    return HyperDriveRun(folder)


def test_the_best_run_may_be_one_that_was_stopped_or_has_failed(run: HyperDriveRun) -> None:
    def best(**which: bool) -> str:
        found = run.get_best_run_by_primary_metric(**which)
        assert found is not None
        return found.id

    assert best() == "s_1_ab_2"
    assert best(include_failed=False) == "s_1_ab_1"
    assert best(include_failed=False, include_canceled=False) == "s_1_ab_0"


def test_children_come_sorted_by_the_metric(run: HyperDriveRun) -> None:
    rows = run.get_children_sorted_by_primary_metric()
    assert [row["run_id"][-1] for row in rows] == ["2", "1", "0", "4", "3"]
    assert [row["best_primary_metric"] for row in rows] == [0.95, 0.9, 0.5, 0.1, None]
    assert [row["status"] for row in rows] == [
        *("Failed", "Canceled", "Completed", "Running", "Completed")
    ]
    assert json.loads(rows[0]["hyperparameters"]) == run.study.drawn[2]
    top = run.get_children_sorted_by_primary_metric(top=2, reverse=True)
    assert [row["run_id"][-1] for row in top] == ["4", "0"]
    with_metric = run.get_children_sorted_by_primary_metric(discard_no_metric=True)
    assert [row["run_id"][-1] for row in with_metric] == ["2", "1", "0", "4"]


def test_metrics_and_parameters_are_by_trial(run: HyperDriveRun) -> None:
    assert run.get_metrics()["s_1_ab_1"] == {"acc": 0.9}
    assert "s_1_ab_3" not in run.get_metrics()
    parameters = run.get_hyperparameters()
    assert list(parameters) == [f"s_1_ab_{number}" for number in range(5)]
    assert json.loads(parameters["s_1_ab_4"]) == run.study.drawn[4]


def test_children_are_runs(run: HyperDriveRun) -> None:
    assert [child.id[-1] for child in run.get_children()] == list("01234")
    assert [child.id[-1] for child in run.get_children(status="Completed")] == ["0", "3"]
    with pytest.raises(UsageError, match="Trial 5 of study s_1_ab has not begun"):
        run.trial(5)


def test_the_configuration_is_the_one_that_was_submitted(run: HyperDriveRun) -> None:
    config = run.hyperdrive_config
    assert config.hyperparameter_sampling == RandomParameterSampling({"lr": uniform(0, 1)})
    assert config.policy == BanditPolicy(slack_factor=0.1)
    assert (config.primary_metric_name, config.max_total_runs) == ("acc", 6)
    assert (config.max_concurrent_runs, config.max_duration_minutes) == (2, 60)
    assert config.run_config.entry_script == "train.py"


def test_a_run_that_is_not_a_study_is_refused(run: HyperDriveRun) -> None:
    with pytest.raises(UsageError, match="is a trial of study s_1_ab, not a study"):
        HyperDriveRun(run.trial(0).folder)


@pytest.mark.parametrize(
    ("method", "arguments"),
    [
        (
            "get_best_run_by_primary_metric",
            ["include_failed", "include_canceled", "include_resume_from_runs"],
        ),
        ("get_children_sorted_by_primary_metric", ["top", "reverse", "discard_no_metric"]),
        ("get_hyperparameters", []),
        ("cancel", []),
    ],
)
def test_methods_have_azure_mls_arguments(method: str, arguments: list[str]) -> None:
    signature = inspect.signature(getattr(HyperDriveRun, method))
    assert [*signature.parameters][1:] == arguments
