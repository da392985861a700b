"""How a training run is distributed: the backends, and what is said of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any

from hpctf.errors import UsageError
from hpctf.estimator.parameter import DISTRIBUTION, FAULT_TOLERANCE, Option, Parameter
from hpctf.estimator.validators import check_count

BACKENDS = ("single", "mpi", "ps", "collective")
COUNTS = ("process_count_per_node", "worker_count", "parameter_server_count")
PLACEMENTS = ("hetjob", "shared")


def _setting(
    default: Any,
    option: Option,
    check: Callable[..., Any] | None = None,
    group: str = DISTRIBUTION,
    overrides: str = "",
) -> Any:
    """Return a field that is a `Parameter`, too: on the command line and in job files."""
    parameter: Parameter[Any, Any] = Parameter(
        group, "", check, option, default=default, overrides=overrides
    )
    return field(default=default, metadata={"parameter": parameter})


def _check_placement(parameter: str, value: str | None) -> str | None:
    if value not in (None, *PLACEMENTS):
        raise UsageError(f"{parameter} is {value!r}, but must be 'hetjob' or 'shared'.")
    return value


@dataclass(frozen=True)
class Mpi:
    """MPI training, Horovod included: `process_count_per_node` ranks on every node.

    Parameters
    ----------
    pin_gpus
        Whether a rank sees only its own GPUs. Set it to False for scripts that choose with
        ``gpus[hvd.local_rank()]``, which need to see all of the node's. None is the site's choice.
    """

    process_count_per_node: int = 1
    pin_gpus: bool | None = _setting(
        None,
        Option("--pin-gpus/--no-pin-gpus", bool, help="A rank sees only its own GPUs."),
        overrides="pin_gpus",
    )

    backend = "mpi"


@dataclass(frozen=True)
class ParameterServer:
    """TensorFlow's parameter servers.

    Parameters
    ----------
    worker_count, parameter_server_count
        How many workers and parameter servers, over all nodes.
    coordinator
        True: the script runs on the chief alone, and hpctf runs TensorFlow's standard server on
        workers and ps (TensorFlow 2's ClusterCoordinator). False: the script runs on every task,
        as in Azure ML, and starts its own server.
    chief
        Whether there is a chief besides the workers. The coordinator needs one.
    placement
        ``hetjob`` (ps on nodes of their own), ``shared`` (beside the workers); None: the site's.
    max_worker_restarts
        How often a worker that crashes is started again in its place while the chief goes on.
        TensorFlow's coordinator waits for it and gives it work again.
    """

    worker_count: int = 1
    parameter_server_count: int = 1
    coordinator: bool = _setting(
        True,
        Option(
            "--ps-mode",
            ("coordinator", "script"),
            help="Script on the chief alone, or on every task.",
            read=lambda mode: mode == "coordinator",
        ),
    )
    chief: bool = _setting(
        True, Option("--chief/--no-chief", bool, help="ps: a chief besides the workers (default).")
    )
    placement: str | None = _setting(
        None,
        Option("--ps-placement", PLACEMENTS, help="Where ps run."),
        _check_placement,
        overrides="ps.placement",
    )
    max_worker_restarts: int = _setting(
        0,
        Option("--max-worker-restarts", int, "N", help="ps: start a crashed worker again."),
        partial(check_count, least=0),
        FAULT_TOLERANCE,
    )

    backend = "ps"


@dataclass(frozen=True)
class MultiWorker:
    """MultiWorkerMirroredStrategy: `worker_count` workers; by default one per node."""

    worker_count: int | None = None

    backend = "collective"


Distribution = Mpi | ParameterServer | MultiWorker


def settings_of(kind: type[Distribution]) -> dict[str, Parameter[Any, Any]]:
    """Return what can be said of a backend besides its counts."""
    found = {one.name: one.metadata["parameter"] for one in fields(kind) if one.metadata}
    for name, parameter in found.items():
        parameter.name = name
    return found


SETTINGS = {kind: settings_of(kind) for kind in (Mpi, ParameterServer)}
"""The settings of each backend that has some; the estimator has them as attributes."""
