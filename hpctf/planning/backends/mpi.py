"""MPI ranks, for Horovod and mpi4py, through ``srun --mpi=...`` or ``mpirun``."""

from __future__ import annotations

import shutil

from hpctf.errors import UsageError
from hpctf.estimator.tensorflow import TensorFlow
from hpctf.plan import Role
from hpctf.planning.backends.layout import Group, Layout, check_slots, refuse
from hpctf.site.model import Site, Target


def lay_out(estimator: TensorFlow, site: Site, name: str, target: Target) -> Layout:
    """`node_count` × `process_count_per_node` workers, all alike."""
    refuse(estimator, "worker_count", "parameter_server_count")
    nodes = estimator.node_count or 1
    tasks = nodes * (estimator.process_count_per_node or 1)
    check_slots("node_count × process_count_per_node", tasks, nodes, name, target)
    if site.scheduler == "local" and not shutil.which(site.mpi.command):
        raise UsageError(
            f"Backend 'mpi' needs {site.mpi.command} on this machine, and there is none.",
            "Install Open MPI (Debian: apt-get install openmpi-bin libopenmpi-dev), or use "
            "another backend.",
        )
    launcher, options = site.mpi.launcher, site.mpi.options
    if site.scheduler == "local" and launcher == "srun":
        launcher, options = "mpirun", ("--oversubscribe",)
    elif launcher == "srun":
        plugin = (f"--mpi={site.mpi.plugin}",) if site.mpi.plugin else ()
        options = plugin + options
    return Layout(
        roles=(Role("worker", tasks),),
        groups=(Group(nodes, tasks, gpu_tasks=tasks),),
        launcher=launcher,
        options=options,
    )
