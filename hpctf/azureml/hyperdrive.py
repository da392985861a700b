"""Azure ML's HyperDrive: the names of ``azureml.train.hyperdrive`` and of its modules."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from hpctf import hyperdrive_run
from hpctf.azureml.refusing import refuses
from hpctf.azureml.runs import Labels, Run
from hpctf.errors import UsageError
from hpctf.run_folder.layout import RunFolder
from hpctf.runs.search.tables import has_labels
from hpctf.tuning import config, expressions, goals, policies, sampling


@refuses("HyperDriveRun")
class HyperDriveRun(hyperdrive_run.HyperDriveRun, Run):
    """A study, with the names and parameters of Azure ML's.

    Parameters
    ----------
    experiment, run_id
        An `Experiment` and the id of one of its studies; or a study's folder alone.
    hyperdrive_config
        Taken and not used: the study's folder says what it is made of.
    """

    type = "hyperdrive"

    def __init__(
        self,
        experiment: Any,
        run_id: str | None = None,
        hyperdrive_config: object = None,
        **kwargs: Any,
    ) -> None:
        folder = experiment if run_id is None else Run(experiment, run_id).folder
        super().__init__(folder)

    def trial(self, number: int) -> Run:
        """Return a trial's run."""
        return Run(super().trial(number).folder)

    def cancel(self) -> bool:  # type: ignore[override]
        """Cancel the study, and return True: its trials end with their grace, and none begins."""
        super().cancel()
        return True

    def wait_for_completion(  # type: ignore[override]
        self,
        show_output: bool = False,
        wait_post_processing: bool = False,
        raise_on_error: bool = True,
    ) -> dict[str, Any]:
        """Wait until the study has ended, and return its details; `show_output` prints a line
        whenever trials begin or end.

        Raises
        ------
        TrainingFailed
            It did not complete, and `raise_on_error` is set.
        """
        hyperdrive_run.HyperDriveRun.wait_for_completion(self, show_output, raise_on_error)
        return self.get_details()

    def get_children(  # type: ignore[override]
        self,
        recursive: bool = False,
        tags: Labels = None,
        properties: Labels = None,
        type: str | None = None,
        status: str | None = None,
        _rehydrate_runs: bool = True,
    ) -> Iterator[Run]:
        """Yield the runs of trials that have begun, with these tags, properties and status."""
        for trial in hyperdrive_run.HyperDriveRun.get_children(self, status=status):
            if has_labels(trial, tags, properties):
                yield Run(trial.folder)

    def get_metrics(
        self,
        name: str | None = None,
        recursive: bool = False,
        run_type: object = None,
        populate: bool = False,
    ) -> dict[str, Any]:
        """Return what each trial has logged, by its id, and then by name."""
        return hyperdrive_run.HyperDriveRun.get_metrics(self, name, recursive)


class HyperDriveRunConfig(config.HyperDriveConfig):
    """`HyperDriveConfig` by its old name, which takes the estimator first."""

    def __init__(
        self,
        estimator: Any,
        hyperparameter_sampling: Any,
        primary_metric_name: str,
        primary_metric_goal: Any,
        max_total_runs: int,
        max_concurrent_runs: int | None = None,
        max_duration_minutes: int = config.MAX_DURATION_MINUTES,
        policy: Any = None,
    ) -> None:
        super().__init__(
            hyperparameter_sampling,
            primary_metric_name,
            primary_metric_goal,
            max_total_runs,
            max_concurrent_runs,  # type: ignore[arg-type]
            max_duration_minutes,
            policy,
            estimator,
        )


Run.of_studies = HyperDriveRun


def run_of(folder: RunFolder) -> Run:
    """Return a run, or the study that it is."""
    return HyperDriveRun(folder) if folder.is_study else Run(folder)


_CLASSES = (
    *(config.HyperDriveConfig, HyperDriveRunConfig, HyperDriveRun, goals.PrimaryMetricGoal),
    *(sampling.HyperParameterSampling, sampling.RandomParameterSampling),
    *(sampling.GridParameterSampling, sampling.BayesianParameterSampling),
    *(policies.EarlyTerminationPolicy, policies.BanditPolicy, policies.MedianStoppingPolicy),
    *(policies.TruncationSelectionPolicy, policies.NoTerminationPolicy),
)
_EXPRESSIONS = (
    *("choice", "randint", "uniform", "quniform", "loguniform", "qloguniform"),
    *("normal", "qnormal", "lognormal", "qlognormal"),
)
_LIMITS = (
    *("MAX_DURATION_MINUTES", "MAX_PARENT_RUNS", "RESUME_FROM_TOTAL_RUNS"),
    "RECOMMENDED_MIN_RUNS_PER_PARAMETER_BAYESIAN",
    "RECOMMENDED_MAX_CONCURRENT_RUNS_BAYESIAN",
)
_ERRORS = (
    *("HyperDriveConfigException", "HyperDriveNotImplementedException"),
    "HyperDriveRehydrateException",
)
NAMES: dict[str, Any] = {
    **dict.fromkeys(_ERRORS, UsageError),
    **{cls.__name__: cls for cls in _CLASSES},
    **{name: getattr(expressions, name) for name in _EXPRESSIONS},
    **{name: getattr(config, name) for name in _LIMITS},
}
"""What hpctf has of the names of HyperDrive's modules."""
