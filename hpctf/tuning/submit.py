"""Submitting a study: one snapshot, one plan, one sbatch, however many trials it has.

Trials of one process are run by agents. Each other trial is a job, which a driver submits.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from hpctf.agents import plans
from hpctf.common.notes import notify
from hpctf.common.paths import AGENT_START
from hpctf.errors import UsageError, shown
from hpctf.estimator.tensorflow import TensorFlow
from hpctf.plan import Plan
from hpctf.run_folder.layout import RunFolder
from hpctf.runs.submitting import Labels, Submitter
from hpctf.tuning.arrays import submit_agents
from hpctf.tuning.config import HyperDriveConfig
from hpctf.tuning.driver_plan import for_driver, for_trials
from hpctf.tuning.earlier import drawn_ahead, going_on, write_results
from hpctf.tuning.functions import keep_function, tried
from hpctf.tuning.methods import parse_sampler
from hpctf.tuning.policies import NoTerminationPolicy
from hpctf.tuning.sampling import FunctionSampling
from hpctf.tuning.search import check_installed
from hpctf.tuning.search_of import search_of
from hpctf.tuning.study import Definition, Runner, Study, write_study

if TYPE_CHECKING:
    from hpctf.planning.planner import Planned
    from hpctf.site.model import Site

MOST_PER_JOB = 128
"""Trials that share a job at most."""

MOST_JOBS = 10_000
"""Jobs of the largest study: as many as slurmctld has at all, unless told otherwise (slurm.conf(5),
MaxJobCount)."""


@dataclass(frozen=True)
class Packing:
    """How many trials share a job: so many in all, or so many for each of its GPUs."""

    per_node: int = 1
    per_gpu: int | None = None

    def __post_init__(self) -> None:
        for name, value in (("per_node", self.per_node), ("per_gpu", self.per_gpu)):
            if value is not None and (type(value) is not int or not 1 <= value <= MOST_PER_JOB):
                raise UsageError(
                    f"{name} is {shown(value)}, but must be a whole number from 1 to "
                    f"{MOST_PER_JOB}."
                )
        if self.per_gpu is not None and self.per_node != 1:
            raise UsageError(
                f"per_node is {self.per_node} and per_gpu is {self.per_gpu}, but each says how "
                "many trials share a job.",
                "Pass one of the two.",
            )

    def __str__(self) -> str:
        return f"per_node={self.per_node}" if self.per_gpu is None else f"per_gpu={self.per_gpu}"

    def per_job(self, gpus: int) -> int:
        """Return how many trials share a job with so many GPUs."""
        if self.per_gpu is None:
            return self.per_node
        if not gpus:
            raise UsageError(
                f"per_gpu is {self.per_gpu}, but a job of this study has no GPUs.",
                "Request them (--use-gpu), or pass per_node (--per-node).",
            )
        return self.per_gpu * gpus


ONE_A_JOB = Packing()


def gpus_of(planned: Planned) -> int:
    """Return how many GPUs a trial's job has."""
    return planned.plan.components[0].gpus_per_node


def submit_study(
    submitter: Submitter,
    config: HyperDriveConfig,
    labels: Labels,
    on_note: Any = None,
    *,
    seed: int | None = None,
    packing: Packing = ONE_A_JOB,
    job_per_trial: bool | None = None,
) -> RunFolder:
    """Submit a study, and return its run folder.

    Parameters
    ----------
    seed
        From which, and a trial's number, its parameters are drawn; by default a new one.
    packing
        How many trials share a job, its CPUs and its GPUs.
    job_per_trial
        Whether each trial is a job of its own; by default, if it has several processes.

    Raises
    ------
    UsageError, SiteError
        The request cannot be met: nothing was written.
    RunFolderError, SubmissionError
        The file system or the scheduler refused: nothing was left behind.
    """
    estimator = estimator_of(config, submitter.site)
    runner = runner_of(estimator, submitter.site, packing, job_per_trial)
    gpus = gpus_of(submitter.plan(estimator)) if packing.per_gpu is not None else 0
    definition, drawn = define(config, seed, packing.per_job(gpus), runner)
    jobs = jobs_of(definition)
    trial_plans: list[Plan | None] = []

    def adapt(planned: Planned) -> Planned:
        changed, of_trial = adapted(planned, submitter.site, estimator, definition)
        trial_plans.append(of_trial)
        return changed

    def hand_over(
        plans: Sequence[Plan], estimators: Sequence[TensorFlow], folders: Sequence[RunFolder]
    ) -> None:
        write_study(folders[0], definition, drawn, trial_plans[0])
        sampling = config.hyperparameter_sampling
        if isinstance(sampling, FunctionSampling) and sampling.define is not None:
            keep_function(folders[0].path, sampling.define)
        folders[0].update_record(kind="study")
        study = Study(folders[0])
        if config.resume_from:
            take_over(study, config, notify if on_note is None else on_note)
        submit_agents(study, plans[0], jobs, notify if on_note is None else on_note)

    return submitter.submit(
        [estimator],
        on_note,
        config.custom_run_id,
        labels,
        adapt=adapt,
        hand_over=hand_over,
    )[0]


def runner_of(
    estimator: TensorFlow, site: Site, packing: Packing, job_per_trial: bool | None
) -> Runner:
    """Return who runs a study's trials.

    Raises
    ------
    UsageError
        Agents were requested, but cannot run its trials; or the site has no job arrays.
    """
    is_alone = estimator.backend == "single"
    if job_per_trial is False and not is_alone:
        raise UsageError(
            f"Agents run trials of one process, but the backend is {estimator.backend!r}.",
            "Leave job_per_trial out: then each trial is a job of its own.",
        )
    if job_per_trial or not is_alone:
        if packing != ONE_A_JOB:
            raise UsageError(
                f"{packing} asks for several trials in a job, but each trial is a job of its own.",
                "Leave it out, or let agents run trials of one process.",
            )
        return "driver"
    plans.check_arrays(site, "Make each trial a job of its own: --job-per-trial.")
    return "agents"


def define(
    config: HyperDriveConfig, seed: int | None, per_job: int = 1, runner: Runner = "agents"
) -> tuple[Definition, list[dict[str, Any]] | None]:
    """Return what a study is made of, and its trials where they are drawn before the first one."""
    seed = int.from_bytes(os.urandom(4), "big") if seed is None else seed
    sampling, total = config.hyperparameter_sampling, config.max_total_runs
    if isinstance(sampling, FunctionSampling) and sampling.define is not None:
        tried(sampling.define, seed)
    first = going_on(config)
    given = [*(trial.parameters for trial in first), *sampling.enqueued(seed)]
    if len(given) > total:
        raise UsageError(
            f"{len(given)} trials continue or are enqueued, more than the study has: {total}.",
            f"Use max_total_runs={len(given)} (--trials {len(given)}) or more.",
        )
    drawn: list[dict[str, Any]] | None = given or None
    if sampling.is_drawn_ahead:
        drawn = drawn_ahead(sampling, seed, total, given)
        total = len(drawn)
    else:
        check_installed(parse_sampler(sampling.search_sampler))
    record = config.as_record()
    goal = record["primary_metric"]["goal"]
    definition = Definition(
        sampling=record["sampling"],
        policy=record["policy"],
        metric=config.primary_metric_name,
        goal=goal,
        total=total,
        parallel=min(config.max_concurrent_runs, total),
        seed=seed,
        max_duration_s=config.max_duration_minutes * 60,
        trial_timeout_s=config.trial_timeout,
        per_job=per_job,
        resume_from=[{"id": run.id, "folder": str(run.folder.path)} for run in config.resume_from],
        resume_child_runs=[trial._asdict() for trial in first],
        runner=runner,
    )
    return definition, drawn


def take_over(study: Study, config: HyperDriveConfig, tell: Callable[[str], None]) -> None:
    """Give a study, which is not submitted yet, the results of the earlier ones."""
    earlier = write_results(study, [run.folder for run in config.resume_from])
    words = f"{len(earlier)} results of {', '.join(run.id for run in config.resume_from)}"
    search = search_of(study)
    if search is None:
        is_judged = not isinstance(study.definition.early_termination, NoTerminationPolicy)
        use = "the policy compares trials with them" if is_judged else "they count for the best run"
        tell(f"{words}: {use}.")
        return
    learned = search.learn(earlier)
    tell(f"{words}: the search has learned from {learned.taken}.")
    for reason, number in learned.passed_over.items():
        tell(f"{number} results were ignored: {reason}")


def jobs_of(definition: Definition) -> int:
    """Return how many jobs a study's array has: each runs `Definition.per_job` trials at a time.
    A driver is no array: 0."""
    if definition.runner == "driver":
        return 0
    return min(MOST_JOBS, -(-definition.parallel // definition.per_job))


def estimator_of(config: HyperDriveConfig, site: Site) -> TensorFlow:
    """Return what each trial runs.

    Raises
    ------
    UsageError
        A study cannot run it.
    """
    estimator = config.estimator if config.estimator is not None else config.run_config
    if not isinstance(estimator, TensorFlow):
        raise UsageError(
            f"A study runs an estimator, but was given {type(estimator).__name__}.",
            "Use HyperDriveConfig(estimator=hpctf.TensorFlow(...), ...).",
        )
    if site.scheduler != "slurm":
        raise UsageError(
            f"Site {site.name!r} has no Slurm, and so no studies.", "Choose another one: --site."
        )
    if estimator.function is not None:
        raise UsageError(
            "A study's trials get their parameters on the command line, which a function has not.",
            "Put the function into a script (entry_script).",
        )
    if estimator.resume_from is not None:
        raise UsageError(
            "A study cannot continue from a run's checkpoints (resume_from).",
            "Let the script load them itself, from an input: inputs={'start': RUN_FOLDER}.",
        )
    if estimator.after:
        raise _cannot_wait(estimator.after[0].rpartition(":")[0])
    return estimator


def _cannot_wait(run: str) -> UsageError:
    return UsageError(
        f"A study cannot wait for another run ({run}): its jobs come and go.",
        "Wait for that run, and start the study then: hpctf wait RUN && hpctf tune start ...",
    )


def adapted(
    planned: Planned, site: Site, estimator: TensorFlow, definition: Definition
) -> tuple[Planned, Plan | None]:
    """Return the plan of a study, made of a trial's; and the trial's, if each is a job."""
    for earlier in planned.plan.after:
        raise _cannot_wait(earlier.run)
    if definition.runner == "driver":
        return for_driver(planned, site, estimator), for_trials(planned.plan)
    return for_agents(planned, site, definition, jobs_of(definition)), None


def for_agents(planned: Planned, site: Site, definition: Definition, jobs: int) -> Planned:
    """Return the plan of a study: a trial's, with agents for ranks, in a job each."""
    return plans.for_agents(
        planned,
        site,
        jobs=jobs,
        per_job=definition.per_job,
        start=AGENT_START,
        hint="Make each trial a job of its own: --job-per-trial.",
    )
