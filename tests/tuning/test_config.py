"""HyperDriveConfig takes, checks and refuses what Azure ML's does."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from hpctf.errors import UsageError
from hpctf.run_folder.layout import RunFolder
from hpctf.tuning import expressions as azure
from hpctf.tuning.config import HyperDriveConfig
from hpctf.tuning.goals import PrimaryMetricGoal
from hpctf.tuning.policies import BanditPolicy, NoTerminationPolicy
from hpctf.tuning.sampling import (
    BayesianParameterSampling,
    RandomParameterSampling,
    sampling_from_record,
)
from hpctf.tuning.study import Study, write_study
from hpctf.tuning.submit import define

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
class Earlier:
    """An earlier study, or a trial of one, in whatever state a test needs it."""

    folder: RunFolder
    status: str = "Completed"

    @property
    def id(self) -> str:
        return self.folder.id

    def get_status(self) -> str:
        return self.status


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Earlier]:
    """Return what makes an earlier study."""

    def study(name: str = "one", status: str = "Completed", **changes: Any) -> Earlier:
        folder = RunFolder(tmp_path / "e" / name)
        folder.path.mkdir(parents=True, exist_ok=True)
        write_study(folder, *define(config(**changes), 0))
        return Earlier(folder, status)

    return study


def trial_of(study: Earlier, number: int = 0, status: str = "Canceled") -> Earlier:
    return Earlier(Study(study.folder).trial(number), status)


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


def test_earlier_studies_and_their_trials_are_resumed(make: Callable[..., Earlier]) -> None:
    earlier = make()
    found = config(resume_from=earlier, resume_child_runs=[trial_of(earlier)])
    assert found.as_record()["resume_from"] == ["one"]
    assert found.as_record()["resume_child_runs"] == ["one_0"]
    config(resume_from=[make(f"s{n}", "Canceled") for n in range(5)])


Make = Callable[..., Earlier]
REFUSED: dict[str, Callable[[Make], dict[str, Any]]] = {
    "5 at most": lambda make: {"resume_from": [make(f"s{n}") for n in range(6)]},
    "one twice": lambda make: {"resume_from": [make(), make()]},
    "which is Running": lambda make: {"resume_from": make(status="Running")},
    "which is Failed": lambda make: {"resume_from": make(status="Failed")},
    "of one is loss": lambda make: {"resume_from": make(primary_metric_name="loss")},
    "is MINIMIZE": lambda make: {"resume_from": make(primary_metric_goal="minimize")},
    "max_total_runs to 10": lambda make: {"resume_from": make(max_total_runs=990)},
    "one_0, which is not a study": lambda make: {"resume_from": trial_of(make())},
    "'one', which is not a run": lambda make: {"resume_from": "one"},
    "another parameter_space": lambda make: {
        "hyperparameter_sampling": BAYESIAN,
        "resume_from": make(),
    },
    "more than max_total_runs": lambda make: {
        "max_total_runs": 1,
        "resume_child_runs": [trial_of(make(), number) for number in range(2)],
    },
    "one_0 twice": lambda make: {"resume_child_runs": [trial_of(make())] * 2},
    "not a study's trial": lambda make: {"resume_child_runs": make()},
    "have ended": lambda make: {"resume_child_runs": trial_of(make(), status="Running")},
    "trials of 6 studies": lambda make: {
        "resume_child_runs": [trial_of(make(f"s{n}")) for n in range(6)]
    },
}


@pytest.mark.parametrize("words", REFUSED)
def test_earlier_studies_that_do_not_fit_are_refused(make: Make, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        config(**REFUSED[words](make))
    assert words in str(refused.value)


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
    ],
)
def test_what_azure_ml_refuses_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(UsageError) as refused:
        config(**changes)
    assert words in str(refused.value)
