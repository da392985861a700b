"""What a job asks Slurm for, apart from what it runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from hpctf.errors import UsageError, did_you_mean, shown
from hpctf.scheduler.sbatch_options import DIRECTIVE_KEY, OURS, directive_value, our_option

if TYPE_CHECKING:
    from hpctf.estimator.tensorflow import TensorFlow

_GPU_OPTIONS = ("gpus-per-node", "gres", "gpus", "gpus-per-task", "gpus-per-socket")

TARGET_OPTIONS = {
    "mem": ("mem", "mem-per-cpu", "mem-per-gpu"),
    "partition": ("partition",),
    "account": ("account",),
    "qos": ("qos",),
    "constraint": ("constraint",),
    "clusters": ("clusters",),
    "cpus_per_task": ("cpus-per-task", "cpus-per-gpu"),
    "cpus_per_gpu": ("cpus-per-gpu",),
    "gpus": _GPU_OPTIONS,
    "gpu_request": _GPU_OPTIONS,
    "gpu_type": _GPU_OPTIONS,
    "time_limit": ("time", "time-min"),
}
"""A target's fields, and the sbatch options that say the same; hpctf writes the first of them."""


@dataclass(frozen=True)
class Resources:
    """What a person requests of the site's machines; None leaves it to the target.

    Parameters
    ----------
    target
        A compute target's name; None is the site's default.
    nodes
        Nodes in all.
    use_gpu, gpus
        Whether GPUs are requested, and how many per node.
    cpus
        CPUs per task.
    mem
        Memory per node, as Slurm writes it.
    time_s
        Seconds that the job may run.
    requeue
        Whether Slurm may start the job again.
    sbatch
        More sbatch options by their long names; False takes one away.

    Raises
    ------
    UsageError
        An sbatch option that hpctf sets itself, or that no ``#SBATCH`` line can carry.
    """

    target: str | None = None
    nodes: int | None = None
    use_gpu: bool = False
    gpus: int | None = None
    cpus: int | None = None
    mem: str | None = None
    time_s: int | None = None
    requeue: bool | None = None
    sbatch: Mapping[str, object] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "sbatch", _checked(self.sbatch))

    @classmethod
    def of(cls, estimator: TensorFlow) -> Resources:
        """Return what an estimator requests."""
        restarts = estimator.max_restarts
        return cls(
            target=estimator.compute_target,
            nodes=estimator.node_count,
            use_gpu=estimator.use_gpu,
            gpus=estimator.gpus_per_node,
            cpus=estimator.cpus_per_task,
            mem=estimator.mem,
            time_s=estimator.max_run_duration_seconds,
            requeue=None if restarts is None else restarts > 0,
            sbatch=estimator.sbatch,
        )


def notes_without_slurm(asked: Resources, what: str) -> Iterator[str]:
    """Yield a note for each thing that is requested of Slurm, where `what` is no job."""
    wishes = {
        "A time limit": asked.time_s,
        "A number of CPUs": asked.cpus,
        "An amount of memory": asked.mem,
        **{f"--sbatch {key}": value for key, value in asked.sbatch.items()},
    }
    for wish, value in wishes.items():
        if value not in (None, False):
            yield f"{wish} has no effect: {what} is on this machine, not in a Slurm job."


def _checked(options: Mapping[str, object]) -> dict[str, object]:
    checked: dict[str, object] = {}
    for given, value in options.items():
        key = given.lstrip("-").replace("_", "-")
        ours = our_option(key)
        if ours is not None:
            which = "it" if ours == key else ours
            raise UsageError(f"--sbatch {key}: hpctf sets {which} itself; {OURS[ours]}.")
        if not DIRECTIVE_KEY.match(key):
            raise UsageError(
                f"--sbatch {shown(given)} is not the long name of an sbatch option."
                f"{did_you_mean(key, ['partition', 'account', 'qos', 'mem', 'reservation'])}"
            )
        checked[key] = directive_value(key, value)
    return checked
