"""What a backend decides: which roles run, on how many nodes, started how."""

from __future__ import annotations

import math
from dataclasses import dataclass

from hpctf.errors import UsageError
from hpctf.estimator.tensorflow import TensorFlow
from hpctf.plan import Role
from hpctf.site.model import Target


@dataclass(frozen=True)
class Group:
    """Nodes of one kind: what becomes a component of the job.

    ``gpu_tasks`` of its tasks use GPUs; ``target`` is a compute target's name, None the run's own.
    """

    nodes: int
    tasks: int
    gpu_tasks: int = 0
    target: str | None = None


@dataclass(frozen=True)
class Layout:
    """A backend's answer to an estimator on a site.

    Parameters
    ----------
    roles, groups
        In rank order; a role's `component` is its group's position.
    launcher, options
        ``srun`` or ``mpirun``, and its own options.
    tf_config
        Whether the ranks get TF_CONFIG.
    notes
        What the person should be told, though it is no error.
    """

    roles: tuple[Role, ...]
    groups: tuple[Group, ...]
    launcher: str = "srun"
    options: tuple[str, ...] = ()
    tf_config: bool = False
    notes: tuple[str, ...] = ()


def refuse(estimator: TensorFlow, *names: str) -> None:
    """Refuse parameters that mean nothing to the estimator's backend."""
    for name in names:
        value = getattr(estimator, name)
        if value is not None:
            raise UsageError(
                f"{name} is {value}, but backend {estimator.backend!r} does not know it.",
                _MEANING[name],
            )


def nodes_for(tasks: int, per_node: int) -> int:
    """Return how many nodes hold `tasks` at `per_node` each."""
    return math.ceil(tasks / per_node)


def check_slots(
    what: str, tasks: int, nodes: int, name: str, target: Target, other_nodes: int = 0
) -> None:
    """Refuse more tasks than the nodes have slots, and fewer tasks than nodes.

    Parameters
    ----------
    what
        The parameters that made up `tasks`, as the person knows them.
    other_nodes
        Nodes of the job's other components, which node_count counts too.
    """
    if target.slots is not None and tasks > nodes * target.slots:
        raise UsageError(
            f"{what} is {tasks}, but target {name!r} has {nodes} nodes × {target.slots} slots"
            f" = {nodes * target.slots}.",
            f"Ask for more nodes (--nodes {nodes_for(tasks, target.slots) + other_nodes}) "
            "or fewer tasks.",
        )
    if tasks < nodes:
        raise UsageError(
            f"{what} is {tasks}, but node_count is {nodes + other_nodes}: some nodes would have "
            "nothing to do.",
            f"Ask for fewer nodes (--nodes {tasks + other_nodes}) or more tasks.",
        )


_MEANING = {
    "worker_count": "worker_count belongs to 'ps' and 'collective'; for 'mpi' say node_count and "
    "process_count_per_node.",
    "parameter_server_count": "Parameter servers belong to backend 'ps' (--backend ps).",
    "process_count_per_node": "One process runs with 'single'; several need 'mpi', 'ps' or "
    "'collective'.",
}
