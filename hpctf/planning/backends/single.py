"""One process, no distribution: TF_CONFIG stays unset."""

from __future__ import annotations

from hpctf.estimator.tensorflow import TensorFlow
from hpctf.plan import Role
from hpctf.planning.backends.layout import Group, Layout, refuse
from hpctf.site.model import Site, Target


def lay_out(estimator: TensorFlow, site: Site, name: str, target: Target) -> Layout:
    """One task; more nodes are allocated if requested, and a note names the idle ones."""
    if estimator.process_count_per_node != 1:
        refuse(estimator, "process_count_per_node")
    if estimator.worker_count != 1:
        refuse(estimator, "worker_count")
    refuse(estimator, "parameter_server_count")
    nodes = estimator.node_count or 1
    idle = nodes - 1
    note = (
        f"backend 'single' runs one process: {idle} of {nodes} nodes will be allocated but idle "
        "unless the script uses them itself."
    )
    return Layout(
        roles=(Role("worker", 1),),
        groups=(Group(nodes, 1, gpu_tasks=1),),
        notes=(note,) if idle else (),
    )
