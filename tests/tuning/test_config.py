"""HyperDriveConfig takes, checks and refuses what Azure ML's does."""

from __future__ import annotations

import inspect
import json
from dataclasses import dataclass
from typing import Any

import pytest

from hpctf.errors import UsageError
from hpctf.tuning import expressions as azure
from hpctf.tuning.config import HyperDriveConfig
from hpctf.tuning.goals import PrimaryMetricGoal
from hpctf.tuning.policies import BanditPolicy, NoTerminationPolicy
from hpctf.tuning.sampling import (
    BayesianParameterSampling,
    RandomParameterSampling,
    sampling_from_record,
)

SAMPLING = RandomParameterSampling({"lr": azure.loguniform(-6, -1)})
BAYESIAN = BayesianParameterSampling({"lr": azure.uniform(0, 1)})


def config(**changes: Any) -> HyperDriveConfig:
    given: dict[str, Any] = {
        "hyperparameter_sampling": SAMPLING,
        "primary_metric_name": "accuracy",
        "primary_metric_goal": PrimaryMetricGoal.MAXIMIZE,
        "max_total_runs": 20,
        "run_config": "a run config",
    }
    return HyperDriveConfig(**{**given, **changes})


@dataclass
class Study:
    id: str
    hyperdrive_config: Any
    status: str = "Completed"

    def get_status(self) -> str:
        return self.status


@dataclass
class Child:
    id: str
    parent: Study | None
    status: str = "Failed"

    def get_status(self) -> str:
        return self.status


def test_names_order_and_defaults_are_azure_mls() -> None:
    parameters = list(inspect.signature(HyperDriveConfig).parameters.values())
    assert [(one.name, one.default) for one in parameters] == [
        ("hyperparameter_sampling", inspect.Parameter.empty),
        ("primary_metric_name", inspect.Parameter.empty),
        ("primary_metric_goal", inspect.Parameter.empty),
        ("max_total_runs", inspect.Parameter.empty),
        ("max_concurrent_runs", None),
        ("max_duration_minutes", 10080),
        ("policy", None),
        ("estimator", None),
        ("run_config", None),
        ("resume_from", None),
        ("resume_child_runs", None),
        ("pipeline", None),
        ("debug_flag", None),
        ("custom_run_id", None),
        ("trial_timeout", None),
    ]


def test_what_is_left_out_has_azure_mls_meaning() -> None:
    found = config()
    assert found.max_concurrent_runs == 20
    assert found.policy == NoTerminationPolicy()
    assert found.resume_from == [] and found.resume_child_runs == []
    assert config(primary_metric_goal="minimize").primary_metric_goal is PrimaryMetricGoal.MINIMIZE
    assert config(max_concurrent_runs=0).max_concurrent_runs == 20


def test_a_study_longer_than_a_week_is_cut_with_a_note(caplog: pytest.LogCaptureFixture) -> None:
    assert config(max_duration_minutes=20_000).max_duration_minutes == 10_080
    assert "max_duration_minutes is 20000" in caplog.text


def test_bayesian_sampling_notes_what_azure_ml_warns_of(caplog: pytest.LogCaptureFixture) -> None:
    config(hyperparameter_sampling=BAYESIAN, max_total_runs=20, max_concurrent_runs=20)
    assert not caplog.text
    config(hyperparameter_sampling=BAYESIAN, max_total_runs=19)
    assert "20 runs or more" in caplog.text
    config(hyperparameter_sampling=BAYESIAN, max_total_runs=40, max_concurrent_runs=21)
    assert "20 concurrent runs or fewer" in caplog.text


def test_the_record_is_plain_data() -> None:
    found = config(policy=BanditPolicy(slack_factor=0.1), trial_timeout=60)
    record = json.loads(json.dumps(found.as_record()))
    assert sampling_from_record(record["sampling"]) == SAMPLING
    assert record["policy"] == found.policy.to_json()
    assert record["primary_metric"] == {"name": "accuracy", "goal": "maximize"}
    assert record["trial_timeout"] == 60


def test_earlier_studies_and_their_trials_are_resumed() -> None:
    earlier = Study("one", config())
    found = config(resume_from=earlier, resume_child_runs=[Child("c", earlier)])
    assert found.as_record()["resume_from"] == ["one"]
    assert found.as_record()["resume_child_runs"] == ["c"]
    config(resume_from=[Study(str(n), config(), "Canceled") for n in range(5)])


@pytest.mark.parametrize(
    "changes, words",
    [
        ({"run_config": None}, "neither is given"),
        ({"estimator": "one"}, "both are given"),
        ({"pipeline": "one"}, "no counterpart"),
        ({"hyperparameter_sampling": None}, "must be a sampling"),
        ({"primary_metric_name": ""}, "primary_metric_name is ''"),
        ({"primary_metric_goal": "more"}, "maximize or minimize"),
        ({"primary_metric_goal": None}, "PrimaryMetricGoal.MAXIMIZE"),
        ({"policy": "bandit"}, "policy is 'bandit'"),
        ({"max_total_runs": 0}, "max_total_runs is 0"),
        ({"max_total_runs": True}, "max_total_runs is True"),
        ({"max_concurrent_runs": -1}, "max_concurrent_runs is -1"),
        ({"max_duration_minutes": 0}, "max_duration_minutes is 0"),
        ({"trial_timeout": 0}, "trial_timeout is 0"),
        (
            {"hyperparameter_sampling": BAYESIAN, "policy": BanditPolicy(slack_factor=1)},
            "cannot stop trials early",
        ),
        ({"resume_from": [Study(str(n), config()) for n in range(6)]}, "5 at most"),
        ({"resume_from": [Study("one", config())] * 2}, "one twice"),
        ({"resume_from": Study("one", config(), "Running")}, "which is Running"),
        ({"resume_from": Study("one", config(primary_metric_name="loss"))}, "of one is loss"),
        ({"resume_from": Study("one", config(primary_metric_goal="minimize"))}, "is MINIMIZE"),
        ({"resume_from": Study("one", config(max_total_runs=990))}, "max_total_runs to 10"),
        ({"resume_from": Study("one", None)}, "not a study"),
        (
            {
                "hyperparameter_sampling": BAYESIAN,
                "resume_from": Study("one", config()),
            },
            "another parameter_space",
        ),
        (
            {"max_total_runs": 1, "resume_child_runs": [Child("a", None), Child("b", None)]},
            "more than max_total_runs",
        ),
        ({"resume_child_runs": [Child("a", Study("one", config()))] * 2}, "a twice"),
        ({"resume_child_runs": Child("a", None)}, "not a study's trial"),
        ({"resume_child_runs": Child("a", Study("one", config()), "Running")}, "have ended"),
        (
            {"resume_child_runs": [Child(str(n), Study(str(n), config())) for n in range(6)]},
            "trials of 6 studies",
        ),
    ],
)
def test_what_azure_ml_refuses_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        config(**changes)
    assert words in str(refused.value)
