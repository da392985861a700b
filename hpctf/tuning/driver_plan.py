"""The plan of a study whose trials are jobs of their own: that of its driver, which is a small job.

It goes where environments are built if the site says where that is (``environments.build_target``),
which is for small jobs; else where the trials go.
"""

from __future__ import annotations

import os
from dataclasses import replace
from typing import TYPE_CHECKING

from hpctf.agents.process import WARNING
from hpctf.common.paths import AGENT_START
from hpctf.common.units import seconds_of
from hpctf.plan import Component, Plan, Role
from hpctf.planning.backends.layout import Group
from hpctf.planning.directives import REQUEUE_S, directives, dropped_by
from hpctf.planning.resources import Resources
from hpctf.scheduler.programs import chosen_by_shell
from hpctf.site.loading import find_target

if TYPE_CHECKING:
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.planning.planner import Planned
    from hpctf.site.model import Site

_MEMORY = "2G"
"""What a driver may use at most: Optuna with 5,000 trials takes a fraction of it."""

_OF_THE_JOB = ("account", "qos", "partition", "reservation", "constraint", "clusters", "wckey")
_OF_THE_START = ("begin", "deadline", "dependency")
"""What a person asks for the trials, and counts for the driver as well: without their account it
would not start, and no trial begins before it."""


def for_driver(planned: Planned, site: Site, estimator: TensorFlow) -> Planned:
    """Return the plan of a study's driver, given that of a trial."""
    plan = planned.plan
    component = Component(1, 1, directives=_directives(plan, site, estimator))
    changed = replace(
        plan,
        roles=(Role("worker", 1),),
        components=(component,),
        launch=replace(
            plan.launch,
            method="srun",
            options=(),
            start=AGENT_START,
            modules=(),
            prologue=site.prologue,
            epilogue=(),
            step_options=(),
        ),
        interruption=replace(plan.interruption, signal=None, max_restarts=0),
        entry=replace(plan.entry, container=None),
        staging=None,
    )
    return replace(planned, plan=changed)


def for_trials(plan: Plan) -> Plan:
    """Return the plan of a trial as it is kept: what delays the driver does not delay it again."""
    first, *others = plan.components
    kept = tuple((key, value) for key, value in first.directives if key not in _OF_THE_START)
    return replace(plan, components=(replace(first, directives=kept), *others))


def _directives(plan: Plan, site: Site, estimator: TensorFlow) -> tuple[tuple[str, str], ...]:
    settings = site.environments
    own = settings.build_target
    _, target = find_target(site, own or estimator.compute_target)
    given = (*_OF_THE_START, *(("account",) if own is not None else _OF_THE_JOB))
    time_s = estimator.max_run_duration_seconds
    if own is not None:
        time_s = None if target.time_limit else seconds_of(settings.build_time)
    task = Resources(
        cpus=1,
        mem=_MEMORY,
        time_s=time_s,
        sbatch={
            **{key: value for key, value in estimator.sbatch.items() if key in given},
            "exclusive": False,  # a target for trainings may say so of all its jobs
        },
    )
    of_job: dict[str, object] = {}
    dropped = dropped_by(site, target)
    if site.warning.signal and "signal" not in dropped:
        of_job["signal"] = f"B:{WARNING}@{plan.interruption.grace_s + REQUEUE_S}"
    if "requeue" not in dropped:
        of_job["requeue"] = True
    return directives(task, Group(1, 1), site, target, 0, of_job, chosen_by_shell(os.environ))
