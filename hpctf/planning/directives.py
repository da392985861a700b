"""The ``#SBATCH`` lines of a component: estimator over target over site, each option once."""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Mapping

from hpctf.common.units import UNLIMITED_S, seconds_of, time_text
from hpctf.errors import UsageError
from hpctf.plan import Interruption
from hpctf.planning.backends.layout import Group
from hpctf.planning.resources import TARGET_OPTIONS, Resources
from hpctf.scheduler.sbatch_options import (
    check_directive_value,
    check_memory,
    check_not_empty,
    directive_value,
    other_memory,
)
from hpctf.site.model import Site, Target

REQUEUE_S = 15
"""Seconds that a job keeps for itself, after its script's grace, to have itself requeued."""


def gpus_per_node(asked: Resources, group: Group, name: str, target: Target, pin: bool) -> int:
    """Return how many GPUs are requested on each node of the group.

    Raises
    ------
    UsageError
        More than the target has, or fewer than the pinned processes of a node need.
    """
    if not asked.use_gpu or not group.gpu_tasks:
        return 0
    tasks = math.ceil(group.gpu_tasks / group.nodes)
    gpus = asked.gpus or target.gpus or tasks
    if target.gpus is not None and gpus > target.gpus:
        what = f"gpus_per_node is {gpus}" if asked.gpus else "use_gpu is set"
        have = f"{target.gpus} GPUs per node" if target.gpus else "no GPUs"
        raise UsageError(
            f"{what}, but target {name!r} has {have}.",
            "Ask for fewer, or choose another target (--target).",
        )
    if pin and tasks > gpus:
        raise UsageError(
            f"{tasks} processes per node share {gpus} GPUs, but each is to have its own.",
            f"Ask for more GPUs (--gpus-per-node {tasks}) or fewer processes per node.",
        )
    return gpus


def directives(
    asked: Resources,
    group: Group,
    site: Site,
    target: Target,
    gpus: int,
    of_job: Mapping[str, object],
    of_shell: Mapping[str, object],
) -> tuple[tuple[str, str], ...]:
    """Return a component's sbatch options, each once.

    `of_job` are those of the job as a whole, `of_shell` what variables of the shell choose
    (`hpctf.scheduler.programs.chosen_by_shell`), which counts where nothing else does.

    A later layer replaces an earlier one: the site's directives, the target's fields, the
    target's directives, what the person asked for, the person's own sbatch options. False takes
    an option away.
    """
    # Slots, not tasks: every node gets the same number, and srun then spreads the tasks evenly.
    # With --ntasks alone Slurm fills the first nodes (measured: 4 tasks on 2 nodes as 3 and 1).
    per_node = math.ceil(group.tasks / group.nodes)
    seconds = time_limit(asked, target)
    chosen: dict[str, object] = {"nodes": group.nodes, "ntasks-per-node": per_node}
    layers: tuple[Mapping[str, object], ...] = (
        of_shell,
        site.directives,
        _fields(target, gpus, per_node),
        target.directives,
        {
            "cpus-per-task": asked.cpus,
            "mem": asked.mem,
            "time": None if seconds is None else time_text(seconds),
            **of_job,
            **asked.sbatch,
        },
    )
    for layer in layers:
        said = {key: directive_value(key, value) for key, value in layer.items()}
        given = {key: value for key, value in said.items() if value is not None}
        for key in other_memory(chosen, given):
            del chosen[key]
        chosen.update(given)
    dropped = dropped_by(site, target)
    made = tuple(
        (key, "" if value is True else str(value))
        for key, value in chosen.items()
        if value is not False and key not in dropped
    )
    for key, value in made:
        check_directive_value(key, value)
        check_not_empty(key, chosen[key])
    check_memory(made)
    return made


def job_directives(
    asked: Resources,
    rules: Interruption,
    launcher: str,
    *,
    leads: bool,
    dropped: Collection[str] = (),
) -> dict[str, object]:
    """Return what is requested for a job as a whole: that it may be requeued, and how it is warned.

    Every component says that it may be requeued; the one that `leads` is warned for all.

    Raises
    ------
    UsageError
        The person's own sbatch options say otherwise, or the site drops one.
    """
    made: dict[str, object] = {}
    if asked.requeue is not None:
        made["requeue" if asked.requeue else "no-requeue"] = True
    if rules.signal and leads:
        # mpirun's ranks are not tasks of Slurm's: the batch script tells it.
        to = "B:" if launcher == "mpirun" else ""
        made["signal"] = f"{to}{rules.signal}@{rules.grace_s + REQUEUE_S}"
    for key in made.keys() & asked.sbatch.keys():
        raise UsageError(
            f"--sbatch {key}: hpctf sets it itself for a run that restarts.",
            "Leave it out, or max_restarts and grace_seconds (--max-restarts, --grace).",
        )
    for key in made.keys() & set(dropped):
        raise UsageError(
            f"The site never writes --{key} (drop: [{key}]), but {_NEEDED_BY[key]}.",
            "Leave out max_restarts and grace_seconds (--max-restarts, --grace), or choose another "
            "target (--target).",
        )
    return made


_NEEDED_BY = {
    "requeue": "a run that restarts (max_restarts) must be allowed to",
    "no-requeue": "a run that never restarts (max_restarts=0) says so by it",
    "signal": "a run that is warned of its time limit gets its warning by it",
}


def dropped_by(site: Site, target: Target) -> set[str]:
    """Return the options that no script for a target has."""
    return {*site.drop, *target.drop}


def drop_notes(asked: Resources, site: Site, name: str, target: Target) -> Iterator[str]:
    """Yield a note for each thing that a person asks for and the site never writes."""
    wishes = {
        "mem": ("mem", asked.mem),
        "cpus-per-task": ("cpus_per_task", asked.cpus),
        "time": ("max_run_duration_seconds", asked.time_s),
        **{key: (f"--sbatch {key}", value) for key, value in asked.sbatch.items()},
    }
    for key in sorted(dropped_by(site, target)):
        what, value = wishes.get(key, ("", None))
        if value not in (None, False):
            said = what if value is True else f"{what} is {value}, which"
            yield f"{said} has no effect: target {name!r} never has --{key} (drop: [{key}])."


def time_limit(asked: Resources, target: Target, site: Site | None = None) -> int | None:
    """Return the seconds that a job on the target may run; None is Slurm's own limit.

    Given the `site`, none that its scripts do not say, and none for UNLIMITED.
    """
    if site is not None and site.scheduler == "slurm" and "time" in dropped_by(site, target):
        return None
    seconds = asked.time_s
    if seconds is None and target.time_limit:
        seconds = seconds_of(target.time_limit)
    return None if site is not None and seconds == UNLIMITED_S else seconds


def _fields(target: Target, gpus: int, per_node: int) -> dict[str, object]:
    cpus = target.cpus_per_task
    if gpus and target.cpus_per_gpu:
        cpus = max(1, gpus * target.cpus_per_gpu // per_node)
    fields: dict[str, object] = {"cpus-per-task": cpus}
    for field in ("mem", "partition", "account", "qos", "constraint", "clusters"):
        fields[TARGET_OPTIONS[field][0]] = getattr(target, field)
    if gpus and target.gpu_request != "none":
        kind = f"{target.gpu_type}:" if target.gpu_type else ""
        request = f"gpu:{kind}{gpus}" if target.gpu_request == "gres" else f"{kind}{gpus}"
        fields[target.gpu_request] = request
    return fields
