"""Parameter servers: as components of a heterogeneous job, or beside the workers in one step.

Slurm never lets components of a heterogeneous job, or heterogeneous steps, share a node; hence
``shared`` is one homogeneous step whose roles follow from the ranks (measured, Slurm 22.05).
"""

from __future__ import annotations

from dataclasses import replace

from hpctf.errors import UsageError
from hpctf.estimator.tensorflow import TensorFlow
from hpctf.plan import Role
from hpctf.planning.backends.layout import Group, Layout, check_slots, nodes_for
from hpctf.site.loading import find_target
from hpctf.site.model import Site, Target

SCRIPT_WORKER_GRACE_S = 5.0
"""How long a worker that runs the script may go on once the chief has ended: it may be finishing
its last step, or sit in ``server.join()`` for ever."""


def lay_out(estimator: TensorFlow, site: Site, name: str, target: Target) -> Layout:
    """A chief (unless told otherwise), `worker_count` workers and `parameter_server_count` ps."""
    workers = estimator.worker_count or 1
    servers = estimator.parameter_server_count or 1
    placement = estimator.placement or site.ps.placement
    if site.scheduler == "local":
        placement = "shared"
    arrange = _shared if placement == "shared" else _hetjob
    return Layout(
        roles=_roles(estimator, workers, servers, ps_component=int(placement == "hetjob")),
        groups=arrange(estimator, workers, servers, site, name, target),
        tf_config=True,
    )


def _roles(
    estimator: TensorFlow, workers: int, servers: int, ps_component: int
) -> tuple[Role, ...]:
    ps = Role("ps", servers, component=ps_component, decides=False, uses_gpu=False, serves=True)
    restarts = estimator.max_worker_restarts
    if estimator.coordinator:
        worker = Role("worker", workers, runs="server", decides=False, serves=True)
        return (
            Role("chief", 1, uses_gpu=False),
            replace(worker, max_restarts=restarts),
            replace(ps, runs="server"),
        )
    if not estimator.chief:
        return (Role("worker", workers), ps)
    worker = Role("worker", workers, decides=False, grace_s=SCRIPT_WORKER_GRACE_S)
    return (Role("chief", 1), replace(worker, max_restarts=restarts), ps)


def _shared(
    estimator: TensorFlow, workers: int, servers: int, site: Site, name: str, target: Target
) -> tuple[Group, ...]:
    chief = int(estimator.chief)
    slotted = workers + servers + (0 if estimator.coordinator else chief)
    least = nodes_for(workers, estimator.process_count_per_node or 1)
    if target.slots:
        least = max(least, nodes_for(slotted, target.slots))
    nodes = estimator.node_count or min(least, target.max_nodes or least)
    what = "worker_count + parameter_server_count"
    if estimator.chief and not estimator.coordinator:
        what = f"chief + {what}"
    check_slots(what, slotted, nodes, name, target)
    gpu_tasks = workers + (0 if estimator.coordinator else chief)
    return (Group(nodes, workers + servers + chief, gpu_tasks=gpu_tasks),)


def _hetjob(
    estimator: TensorFlow, workers: int, servers: int, site: Site, name: str, target: Target
) -> tuple[Group, ...]:
    ps_name, ps_target = find_target(site, site.ps.target) if site.ps.target else (name, target)
    ps_nodes = nodes_for(servers, ps_target.slots) if ps_target.slots else 1
    if estimator.node_count is None:
        least = nodes_for(workers, estimator.process_count_per_node or 1)
        nodes = min(least, target.max_nodes or least)
    else:
        nodes = estimator.node_count - ps_nodes
    if nodes < 1:
        raise UsageError(
            f"node_count is {estimator.node_count}, but placement 'hetjob' gives the "
            f"{servers} parameter servers {ps_nodes} of them, and leaves none for the workers.",
            f"Ask for more nodes (--nodes {ps_nodes + 1}) or for --ps-placement shared.",
        )
    chief = int(estimator.chief)
    slotted = workers + (0 if estimator.coordinator else chief)
    what = "worker_count" if slotted == workers else "chief + worker_count"
    check_slots(what, slotted, nodes, name, target, other_nodes=ps_nodes)
    return (
        Group(nodes, workers + chief, gpu_tasks=slotted),
        Group(ps_nodes, servers, target=ps_name),
    )
