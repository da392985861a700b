"""Workers for MultiWorkerMirroredStrategy, one per node unless more are requested."""

from __future__ import annotations

from hpctf.estimator.tensorflow import TensorFlow
from hpctf.plan import Role
from hpctf.planning.backends.layout import Group, Layout, check_slots, nodes_for, refuse
from hpctf.site.model import Site, Target


def lay_out(estimator: TensorFlow, site: Site, name: str, target: Target) -> Layout:
    """`worker_count` workers, or `process_count_per_node` on each of `node_count` nodes."""
    refuse(estimator, "parameter_server_count")
    per_node = estimator.process_count_per_node or 1
    workers = estimator.worker_count or (estimator.node_count or 1) * per_node
    spread = workers if estimator.process_count_per_node is None else nodes_for(workers, per_node)
    nodes = estimator.node_count or min(spread, target.max_nodes or spread)
    check_slots("worker_count", workers, nodes, name, target)
    return Layout(
        roles=(Role("worker", workers),),
        groups=(Group(nodes, workers, gpu_tasks=workers),),
        tf_config=True,
    )
