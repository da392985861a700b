"""What a study is made of: Azure ML's ``HyperDriveConfig``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import KW_ONLY, InitVar, dataclass, replace
from typing import Any, Protocol

from hpctf.common.notes import notify
from hpctf.errors import UsageError, shown
from hpctf.run_folder.layout import RunFolder
from hpctf.tuning.goals import PrimaryMetricGoal, goal_of
from hpctf.tuning.policies import EarlyTerminationPolicy, NoTerminationPolicy
from hpctf.tuning.sampling import BayesianParameterSampling, HyperParameterSampling
from hpctf.tuning.study import Study

MAX_DURATION_MINUTES = 10_080
"""The longest study: a week."""

MAX_PARENT_RUNS = 5
RESUME_FROM_TOTAL_RUNS = 1000
RECOMMENDED_MIN_RUNS_PER_PARAMETER_BAYESIAN = 20
RECOMMENDED_MAX_CONCURRENT_RUNS_BAYESIAN = 20

MOST_RUNS = 1_000_000
"""Trials of the largest study; more is a slip."""

_ENDED = ("Completed", "Canceled", "Failed")


class TunedRun(Protocol):
    """A run: an earlier study, or a trial of one."""

    folder: RunFolder

    @property
    def id(self) -> str: ...

    def get_status(self) -> str: ...


@dataclass(frozen=True)
class HyperDriveConfig:
    """A study: what to run, where parameters come from, what is better, and when it ends.

    Names, order, defaults and checks are those of ``azureml.train.hyperdrive.HyperDriveConfig``.

    Parameters
    ----------
    hyperparameter_sampling
        Where each trial's parameters come from.
    primary_metric_name
        The metric that trials are compared by: a name that the script logs.
    primary_metric_goal
        `PrimaryMetricGoal.MAXIMIZE` or ``MINIMIZE``, or that word.
    max_total_runs
        The largest number of trials; there are fewer if the space ends before.
    max_concurrent_runs
        How many trials run at a time; None, or 0, is all of them.
    max_duration_minutes
        When trials that still run are cancelled; a week at most.
    policy
        Which trials stop early; None is none.
    estimator, run_config
        What to run: one of the two.
    resume_from
        Up to five earlier studies of the same metric and goal, whose results count here.
    resume_child_runs
        Trials of up to five earlier studies that go on as trials of this one.
    pipeline
        Azure ML's pipelines have no counterpart: it is refused.
    debug_flag
        Taken and not used.
    custom_run_id
        The study's name.
    trial_timeout
        Seconds after which a trial is ended, as of the SDK v2's ``SweepJobLimits``; None is the
        target's time limit.
    """

    hyperparameter_sampling: HyperParameterSampling
    primary_metric_name: str
    primary_metric_goal: PrimaryMetricGoal
    max_total_runs: int
    max_concurrent_runs: int = None  # type: ignore[assignment]
    max_duration_minutes: int = MAX_DURATION_MINUTES
    policy: EarlyTerminationPolicy = None  # type: ignore[assignment]
    estimator: Any = None
    run_config: Any = None
    resume_from: Sequence[TunedRun] = None  # type: ignore[assignment]
    resume_child_runs: Sequence[TunedRun] = None  # type: ignore[assignment]
    pipeline: InitVar[Any] = None
    debug_flag: InitVar[Any] = None
    custom_run_id: str | None = None
    _: KW_ONLY
    trial_timeout: int | None = None

    def __post_init__(self, pipeline: Any, debug_flag: Any) -> None:
        self._check_what_runs(pipeline)
        if not isinstance(self.hyperparameter_sampling, HyperParameterSampling):
            raise UsageError(
                f"hyperparameter_sampling is {shown(self.hyperparameter_sampling)}, but must be a "
                "sampling.",
                "Use RandomParameterSampling({'lr': loguniform(-6, -1)}).",
            )
        if not isinstance(self.primary_metric_name, str) or not self.primary_metric_name:
            raise UsageError(
                f"primary_metric_name is {shown(self.primary_metric_name)}, but must be the name "
                "of a metric that the script logs."
            )
        policy = NoTerminationPolicy() if self.policy is None else self.policy
        if not isinstance(policy, EarlyTerminationPolicy):
            raise UsageError(
                f"policy is {shown(policy)}, but must be a policy.",
                "Use BanditPolicy(slack_factor=0.1), or None.",
            )
        self._settle(
            policy=policy,
            primary_metric_goal=goal_of("primary_metric_goal", self.primary_metric_goal),
        )
        self._check_limits()
        if self.primary_metric_name in self.hyperparameter_sampling.objectives:
            raise UsageError(
                f"{self.primary_metric_name!r} is given twice as an objective.", "Name it once."
            )
        pruner = self.hyperparameter_sampling.search_pruner
        if pruner != "none" and not isinstance(self.policy, NoTerminationPolicy):
            raise UsageError(
                f"The study has the pruner {pruner} and the policy {self.policy}, but takes one.",
                "Policies are Azure ML's rules (--policy), pruners Optuna's (--pruner).",
            )
        if self.is_bayesian:
            self._check_bayesian()
        self._settle(
            resume_from=_as_list(self.resume_from),
            resume_child_runs=_as_list(self.resume_child_runs),
        )
        self._check_resume_from()
        self._check_resume_child_runs()

    @property
    def is_bayesian(self) -> bool:
        """Whether the next trial depends on earlier ones' results."""
        return isinstance(self.hyperparameter_sampling, BayesianParameterSampling)

    @property
    def source_directory(self) -> Any:
        """The folder of the script that is run."""
        return getattr(self.estimator or self.run_config, "source_directory", None)

    def having_resumed(
        self, resume_from: Sequence[TunedRun], resume_child_runs: Sequence[TunedRun]
    ) -> HyperDriveConfig:
        """Return what a study was made of that was submitted with these; they may have been resumed
        or changed since, and are not checked again."""
        config = replace(self)
        config._settle(resume_from=list(resume_from), resume_child_runs=list(resume_child_runs))
        return config

    def as_record(self) -> dict[str, Any]:
        """Return the study as plain data, without what it runs and what it resumes."""
        return {
            "sampling": self.hyperparameter_sampling.as_record(),
            "policy": self.policy.to_json(),
            "primary_metric": {
                "name": self.primary_metric_name,
                "goal": self.primary_metric_goal.name.lower(),
            },
            "max_total_runs": self.max_total_runs,
            "max_concurrent_runs": self.max_concurrent_runs,
            "max_duration_minutes": self.max_duration_minutes,
            "trial_timeout": self.trial_timeout,
            "resume_from": [run.id for run in self.resume_from],
            "resume_child_runs": [run.id for run in self.resume_child_runs],
        }

    def _settle(self, **values: Any) -> None:
        for name, value in values.items():
            object.__setattr__(self, name, value)

    def _check_what_runs(self, pipeline: Any) -> None:
        if pipeline is not None:
            raise UsageError(
                "pipeline has no counterpart in hpctf.",
                "Give the training script as run_config=ScriptRunConfig(...) or as an estimator.",
            )
        if (self.estimator is None) == (self.run_config is None):
            both = "both are given" if self.estimator is not None else "neither is given"
            raise UsageError(
                f"HyperDriveConfig takes one of estimator and run_config, but {both}.",
                "Use HyperDriveConfig(run_config=ScriptRunConfig(...), ...).",
            )

    def _check_limits(self) -> None:
        check_count("max_total_runs", self.max_total_runs)
        concurrent = self.max_concurrent_runs or self.max_total_runs
        check_count("max_concurrent_runs", concurrent)
        check_count("max_duration_minutes", self.max_duration_minutes)
        if self.trial_timeout is not None:
            check_count("trial_timeout", self.trial_timeout, MAX_DURATION_MINUTES * 60)
        minutes = self.max_duration_minutes
        if minutes > MAX_DURATION_MINUTES:
            notify(
                f"max_duration_minutes is {minutes}, but a study lasts {MAX_DURATION_MINUTES} "
                "minutes (a week) at most: it is that now."
            )
            minutes = MAX_DURATION_MINUTES
        self._settle(max_concurrent_runs=concurrent, max_duration_minutes=minutes)

    def _check_bayesian(self) -> None:
        if not isinstance(self.policy, NoTerminationPolicy):
            raise UsageError(
                f"BayesianParameterSampling cannot stop trials early, but policy is "
                f"{type(self.policy).__name__}.",
                "Leave the policy out, or use --sampler tpe with a policy.",
            )
        count = len(self.hyperparameter_sampling.parameter_space)
        least = RECOMMENDED_MIN_RUNS_PER_PARAMETER_BAYESIAN * count
        if self.max_total_runs < least:
            notify(
                f"Bayesian sampling of {count} parameters does best with {least} runs or more, but "
                f"max_total_runs is {self.max_total_runs}."
            )
        if self.max_concurrent_runs > RECOMMENDED_MAX_CONCURRENT_RUNS_BAYESIAN:
            notify(
                f"Bayesian sampling does best with {RECOMMENDED_MAX_CONCURRENT_RUNS_BAYESIAN} "
                f"concurrent runs or fewer, but max_concurrent_runs is {self.max_concurrent_runs}."
            )

    def _check_resume_from(self) -> None:
        parents = self.resume_from
        if len(parents) > MAX_PARENT_RUNS:
            raise UsageError(
                f"resume_from has {len(parents)} studies, but takes {MAX_PARENT_RUNS} at most."
            )
        _check_runs("resume_from", parents)
        self._check_parents("resume_from", {run.id: run.folder for run in parents})
        for run in parents:
            if run.get_status() not in ("Completed", "Canceled"):
                raise UsageError(
                    f"resume_from has {run.id}, which is {run.get_status()}, but studies must be "
                    "Completed or Canceled.",
                    "Wait for it, or cancel it first.",
                )
        total = sum(Study(run.folder).definition.total for run in parents)
        if parents and total + self.max_total_runs > RESUME_FROM_TOTAL_RUNS:
            raise UsageError(
                f"max_total_runs of this study and of those in resume_from are "
                f"{total + self.max_total_runs} together, but may be {RESUME_FROM_TOTAL_RUNS}.",
                f"Lower max_total_runs to {RESUME_FROM_TOTAL_RUNS - total}."
                if total < RESUME_FROM_TOTAL_RUNS
                else "Resume from fewer studies.",
            )

    def _check_resume_child_runs(self) -> None:
        children = self.resume_child_runs
        if len(children) > self.max_total_runs:
            raise UsageError(
                f"resume_child_runs has {len(children)} trials, more than max_total_runs, which is "
                f"{self.max_total_runs}.",
                "Raise max_total_runs, or resume fewer trials.",
            )
        _check_runs("resume_child_runs", children)
        parents: dict[str, RunFolder | None] = {}
        for run in children:
            if run.get_status() not in _ENDED:
                raise UsageError(
                    f"resume_child_runs has {run.id}, which is {run.get_status()}, but trials must "
                    f"have ended: {', '.join(_ENDED)}.",
                    "Wait for it, or cancel it first.",
                )
            folder = _folder_of(run)
            parent = None if folder is None else folder.study
            if parent is None:
                raise UsageError(
                    f"resume_child_runs has {run.id}, which is not a study's trial.",
                    "To take over the results of a whole study: resume_from.",
                )
            parents[parent.id] = parent
        if len(parents) > MAX_PARENT_RUNS:
            raise UsageError(
                f"resume_child_runs has trials of {len(parents)} studies, but takes those of "
                f"{MAX_PARENT_RUNS} at most."
            )
        self._check_parents("resume_child_runs", parents)

    def _check_parents(self, parameter: str, parents: Mapping[str, RunFolder | None]) -> None:
        """Refuse studies whose results do not compare with this one's."""
        for run_id, folder in parents.items():
            if folder is None or not folder.is_study:
                raise UsageError(
                    f"{parameter} has {run_id}, which is not a study.",
                    "Name the id of a study, as hpctf tune start printed it.",
                )
            other = Study(folder).definition
            mine, theirs = self.primary_metric_goal, other.primary_goal
            pairs: Mapping[str, tuple[str, str]] = {
                "primary_metric_name": (self.primary_metric_name, other.metric),
                "primary_metric_goal": (mine.name, theirs.name),
            }
            for name, (own, earlier) in pairs.items():
                if own != earlier:
                    raise UsageError(
                        f"{parameter}: {name} of {run_id} is {earlier}, but that of this study is "
                        f"{own}.",
                        "Use the same primary metric and goal, or start without resume_from.",
                    )
            space = self.hyperparameter_sampling.parameter_space
            if self.is_bayesian and other.parameter_sampling.parameter_space != space:
                raise UsageError(
                    f"{parameter}: {run_id} has another parameter_space, but Bayesian sampling "
                    "needs the same one."
                )


def _folder_of(run: Any) -> RunFolder | None:
    folder = getattr(run, "folder", None)
    return folder if isinstance(folder, RunFolder) else None


def _as_list(given: Any) -> list[Any]:
    if given is None:
        return []
    return list(given) if isinstance(given, (list, tuple)) else [given]


def _check_runs(parameter: str, runs: Sequence[Any]) -> None:
    """Refuse what is not a run, and a run that is given twice."""
    known: set[str] = set()
    for run in runs:
        if _folder_of(run) is None:
            raise UsageError(
                f"{parameter} has {shown(run)}, which is not a run.",
                "Give the runs themselves: HyperDriveRun(...), or run.get_children().",
            )
        if run.id in known:
            raise UsageError(f"{parameter} has {run.id} twice.", "Give each once.")
        known.add(run.id)


def check_count(name: str, value: Any, most: int = MOST_RUNS) -> None:
    """Refuse what is no whole number from 1 to `most`."""
    if type(value) is not int or not 1 <= value <= most:
        raise UsageError(
            f"{name} is {shown(value)}, but must be a whole number from 1 to {most:,}."
        )
