"""Azure ML's HyperDrive: the names of ``azureml.train.hyperdrive`` and of its modules."""

from __future__ import annotations

from typing import Any

from hpctf import hyperdrive_run
from hpctf.azureml.runs import Run
from hpctf.run_folder.layout import RunFolder
from hpctf.tuning import config, expressions, goals, policies, sampling


class HyperDriveRun(hyperdrive_run.HyperDriveRun, Run):  # type: ignore[misc]
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


Run.of_studies = HyperDriveRun


def run_of(folder: RunFolder) -> Run:
    """Return a run, or the study that it is."""
    return HyperDriveRun(folder) if folder.is_study else Run(folder)


_CLASSES = (
    *(config.HyperDriveConfig, HyperDriveRun, goals.PrimaryMetricGoal),
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
NAMES: dict[str, Any] = {
    **{cls.__name__: cls for cls in _CLASSES},
    **{name: getattr(expressions, name) for name in _EXPRESSIONS},
    **{name: getattr(config, name) for name in _LIMITS},
}
"""What hpctf has of the names of HyperDrive's modules."""
