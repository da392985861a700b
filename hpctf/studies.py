"""Tuning in one call: what to run, what to vary, and by which metric."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hpctf.common.notes import notify
from hpctf.experiment import Experiment
from hpctf.runs.submitting import Labels
from hpctf.tracking.metrics import checked_tags
from hpctf.tuning.config import MAX_DURATION_MINUTES, HyperDriveConfig, TunedRun, check_count
from hpctf.tuning.policies import EarlyTerminationPolicy, parse_policy
from hpctf.tuning.sampling import function_sampling, parse_sampling
from hpctf.tuning.spaces import space_of
from hpctf.tuning.trials import Define

if TYPE_CHECKING:
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.hyperdrive_run import HyperDriveRun


def tune(
    estimator: TensorFlow,
    space: Mapping[str, Any] | Define,
    metric: str,
    goal: str = "maximize",
    trials: int = 20,
    parallel: int | None = None,
    *,
    objectives: Mapping[str, str] | None = None,
    experiment: Experiment | str = "tune",
    sampler: str = "random",
    policy: EarlyTerminationPolicy | str = "none",
    pruner: str = "none",
    enqueue: Sequence[Mapping[str, Any]] = (),
    seed: int | None = None,
    per_node: int = 1,
    per_gpu: int | None = None,
    job_per_trial: bool | None = None,
    max_duration_minutes: int = MAX_DURATION_MINUTES,
    trial_timeout: int | None = None,
    resume_from: Sequence[TunedRun] = (),
    resume_child_runs: Sequence[TunedRun] = (),
    name: str | None = None,
    tags: Mapping[str, Any] | None = None,
    on_note: Any = None,
) -> HyperDriveRun:
    """Submit a study, and return its run.

        from hpctf import TensorFlow, tune

        study = tune(
            TensorFlow(source_directory="my-proj", entry_script="train.py"),
            {"lr": "loguniform(1e-5, 1e-1)", "batch": "choice(16, 32, 64)"},
            metric="val_accuracy",
            trials=50,
            parallel=8,
            policy="bandit:slack=0.1",
        )
        study.wait_for_completion()
        study.get_best_run_by_primary_metric()

    Parameters
    ----------
    estimator
        What each trial runs. Parameters are added to its arguments: ``--lr 0.01``.
    space
        Expressions, or their text, by the names of their parameters; or a function that draws them
        (`hpctf.tuning.functions`).
    metric, goal
        What the script logs, and whether more of it is better: ``maximize`` or ``minimize``.
    objectives
        Further metrics that count, with their goals: ``{"latency": "minimize"}``.
    trials, parallel
        How many there are, and how many run at a time; None is all of them.
    sampler
        ``random``, ``sobol``, ``grid``, ``bayesian``, or one of Optuna's (`parse_sampling`).
    policy
        Which trials stop early: ``bandit:slack=0.1``, ``median``, ``truncation:20``, ``none``.
    pruner
        One of Optuna's in place of a policy: ``hyperband``, ``halving``, ``median``,
        ``percentile:25``.
    enqueue
        Parameters that the first trials get: ``[{"lr": 0.01}]``. Those that are left out are drawn.
    seed
        From which, and a trial's number, its parameters are drawn; by default a new one.
    per_node
        How many trials share a job, its CPUs and GPUs.
    per_gpu
        The same for each GPU of a job, instead of `per_node`.
    job_per_trial
        Whether each trial is a job of its own, which a driver submits; by default, if it has
        several processes (``mpi``, ``ps``, ``collective``). Else agents take trials.
    max_duration_minutes, trial_timeout
        When all trials, or after how many seconds one trial, are cancelled.
    resume_from
        Up to five earlier studies of the same metric and goal. A search learns from their results,
        and a policy compares trials with theirs.
    resume_child_runs
        Trials of earlier studies that go on from their checkpoints as the first ones of this study.
    name, tags, on_note
        As `hpctf.Experiment.submit` has them.

    Raises
    ------
    UsageError, SiteError
        The request cannot be met: nothing was written.
    RunFolderError, SubmissionError
        The file system or the scheduler refused: nothing was left behind.
    """
    config = config_of(
        estimator,
        space,
        metric,
        goal,
        trials,
        parallel,
        sampler=sampler,
        objectives=objectives,
        policy=policy,
        pruner=pruner,
        enqueue=enqueue,
        max_duration_minutes=max_duration_minutes,
        trial_timeout=trial_timeout,
        resume_from=resume_from,
        resume_child_runs=resume_child_runs,
        name=name,
    )
    place = Experiment(experiment) if isinstance(experiment, str) else experiment
    labels = Labels(checked_tags(tags or {}))
    tell = notify if on_note is None else on_note
    from hpctf.tuning.submit import Packing

    packing = Packing(per_node, per_gpu)
    return place.submit_study(
        config, labels, tell, seed=seed, packing=packing, job_per_trial=job_per_trial
    )


def config_of(
    estimator: TensorFlow,
    space: Mapping[str, Any] | Define,
    metric: str,
    goal: str = "maximize",
    trials: int = 20,
    parallel: int | None = None,
    *,
    objectives: Mapping[str, str] | None = None,
    sampler: str = "random",
    policy: EarlyTerminationPolicy | str = "none",
    pruner: str = "none",
    enqueue: Sequence[Mapping[str, Any]] = (),
    max_duration_minutes: int = MAX_DURATION_MINUTES,
    trial_timeout: int | None = None,
    resume_from: Sequence[TunedRun] = (),
    resume_child_runs: Sequence[TunedRun] = (),
    name: str | None = None,
) -> HyperDriveConfig:
    """Return the study that `tune` submits; the parameters are its own."""
    if parallel is not None:  # 0 is all of them for Azure ML alone
        check_count("parallel", parallel)
    return HyperDriveConfig(
        function_sampling(sampler, space, pruner, enqueue, objectives)
        if callable(space)
        else parse_sampling(sampler, space_of(space, "space"), pruner, enqueue, objectives),
        metric,
        goal,  # type: ignore[arg-type]
        trials,
        parallel,  # type: ignore[arg-type]
        max_duration_minutes,
        parse_policy(policy) if isinstance(policy, str) else policy,
        estimator,
        resume_from=list(resume_from),
        resume_child_runs=list(resume_child_runs),
        custom_run_id=name,
        trial_timeout=trial_timeout,
    )
