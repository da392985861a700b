"""What a person asks for, held against the keys that a site has locked."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from hpctf.common.units import seconds_of

if TYPE_CHECKING:
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.site.model import Site

_FIELDS = {
    "partition": ("partition",),
    "account": ("account",),
    "qos": ("qos",),
    "constraint": ("constraint",),
    "clusters": ("clusters",),
    "mem": ("mem",),
    "mem-per-cpu": ("mem",),
    "mem-per-gpu": ("mem",),
    "time-min": ("time_limit",),
    "cpus-per-gpu": ("cpus_per_task", "cpus_per_gpu"),
    **dict.fromkeys(
        ("gres", "gpus", "gpus-per-node", "gpus-per-task", "gpus-per-socket"),
        ("gpus", "gpu_request", "gpu_type"),
    ),
}
"""The keys of a target that an sbatch option would change."""


def refuse_locked_options(estimator: TensorFlow, site: Site, targets: Iterable[str]) -> None:
    """Refuse what the person asks for if it changes a locked key; the same value is no change.

    Parameters
    ----------
    targets
        The targets that the run uses.

    Raises
    ------
    SiteError
        Naming the option and the lock.
    """
    if not site.locked:
        return
    from hpctf.site.locks import refuse_locked

    for option, key in [*_of_site(estimator, site), *_of_targets(estimator, site, targets)]:
        refuse_locked(site, key, option)


def _of_site(estimator: TensorFlow, site: Site) -> Iterator[tuple[str, str]]:
    asked = (
        ("pin_gpus (--pin-gpus, --no-pin-gpus)", "pin_gpus", estimator.pin_gpus, site.pin_gpus),
        ("azureml (--no-azureml)", "azureml", estimator.azureml, site.azureml),
        ("placement (--ps-placement)", "ps.placement", estimator.ps_placement, site.ps.placement),
        (
            "grace_seconds (--grace)",
            "warning.grace_s",
            estimator.grace_seconds,
            site.warning.grace_s,
        ),
    )
    yield from (
        (option, key) for option, key, value, is_now in asked if value not in (None, is_now)
    )


def _of_targets(
    estimator: TensorFlow, site: Site, targets: Iterable[str]
) -> Iterator[tuple[str, str]]:
    for name in dict.fromkeys(targets):
        target = site.targets[name]
        limit = None if target.time_limit is None else seconds_of(target.time_limit)
        asked = (
            ("mem (--mem)", "mem", "mem", estimator.mem, target.mem),
            (
                "cpus_per_task (--cpus-per-task)",
                "cpus_per_task",
                "cpus-per-task",
                estimator.cpus_per_task,
                target.cpus_per_task,
            ),
            (
                "gpus_per_node (--gpus-per-node)",
                "gpus",
                "gpus-per-node",
                estimator.gpus_per_node,
                target.gpus,
            ),
            (
                "max_run_duration_seconds (--time)",
                "time_limit",
                "time",
                estimator.max_run_duration_seconds,
                limit,
            ),
        )
        for option, field, directive, value, is_now in asked:
            if value in (None, is_now):
                continue
            yield option, f"targets.{name}.{field}"
            if directive in target.directives:
                yield option, f"targets.{name}.directives.{directive}"
            if directive in site.directives:
                yield option, f"directives.{directive}"
        for given, said in estimator.sbatch.items():
            option = given.lstrip("-").replace("_", "-")
            yield from _of_sbatch(option, said, name, site)


def _of_sbatch(option: str, value: object, name: str, site: Site) -> Iterator[tuple[str, str]]:
    """Yield the keys that an sbatch option would change.

    sbatch takes the beginning of an option's name for the option: ``--part=x`` is a partition.
    """
    target = site.targets[name]
    known = {*_FIELDS, *site.directives, *target.directives}
    known |= {lock.rpartition(".")[2] for lock in site.locked}
    for key in sorted({option, *(word for word in known if option and word.startswith(option))}):
        for field in _FIELDS.get(key, ()):
            if key != field or value != getattr(target, field):
                yield f"--sbatch {option}", f"targets.{name}.{field}"
        for above, directives in (
            (f"targets.{name}.directives", target.directives),
            ("directives", site.directives),
        ):
            if key not in directives or directives[key] != value:
                yield f"--sbatch {option}", f"{above}.{key}"
