"""Who this rank is, and the environment that follows from it."""

from __future__ import annotations

import os
import sys
from collections import namedtuple

from hpctf import cluster_spec
from hpctf.common.paths import CLIENT, STARTUP
from hpctf.errors import ClusterSpecError
from hpctf.node.completion import attempt_of
from hpctf.scheduler.programs import environment_of

TYPE_CHECKING = False  # not typing's: importing it costs each rank 8 ms
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

GPU_VARIABLES = ("CUDA_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES")

LIBRARIES = "HPCTF_LD_LIBRARY_PATH"
"""Where the batch script keeps the modules' LD_LIBRARY_PATH, which is not for hpctf's own Python
(templates/base.sbatch.j2)."""


class Identity(namedtuple("Identity", "rank local_rank world_size role index host")):
    """A rank's place: its number, its role and index in it, and its host."""

    __slots__ = ()
    rank: int
    local_rank: int
    world_size: int
    role: str
    index: int
    host: str

    @property
    def name(self) -> str:
        """``worker-0`` and so on: the name of the rank's files."""
        return f"{self.role}-{self.index}"


def role_counts(plan: dict[str, Any]) -> list[tuple[str, int]]:
    """Return (name, count) of the plan's roles in rank order."""
    return [(role["name"], role["count"]) for role in plan["roles"]]


def role_named(plan: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the plan's role of that name."""
    found: dict[str, Any] = next(role for role in plan["roles"] if role["name"] == name)
    return found


def identify(plan: dict[str, Any], env: Mapping[str, str]) -> Identity:
    """Return who the rank is that sees `env`. Raises `ClusterSpecError` if the launcher started
    another number of ranks than planned: the classic sign of an MPI library and an srun plugin that
    do not know each other."""
    counts = role_counts(plan)
    planned = sum(count for _, count in counts)
    rank = cluster_spec.rank_from_environment(env)
    size = cluster_spec.world_size_from_environment(env)
    if size != planned:
        raise ClusterSpecError(
            f"the launcher started {size} ranks, but {planned} were planned",
            "Check the site's MPI launcher and plugin (mpi: in the site file).",
        )
    role, index = cluster_spec.role_of(counts, rank)
    local_rank = cluster_spec.local_rank_from_environment(env)
    return Identity(rank, local_rank, size, role, index, os.uname().nodename)


def environment(
    plan: dict[str, Any], me: Identity, inherited: Mapping[str, str], run_folder: str
) -> dict[str, str]:
    """Return the whole environment of the training process, but for TF_CONFIG.

    In order: the network's variables, what the job has, the training environment's own, the
    person's variables, and what hpctf says of the run (HPCTF_*, the GPUs).
    """
    entry = plan["entry"]
    env = environment_of("rank", inherited)
    if LIBRARIES in inherited:
        env["LD_LIBRARY_PATH"] = inherited[LIBRARIES]
    if entry["container"]:
        env.pop("PYTHONPATH", None)  # of the host's modules
    else:
        env.update(_place_of(entry["python"], env.get("PATH", os.defpath)))
        env["PWD"] = os.path.join(run_folder, "snapshot")
    env.setdefault("PYTHONUNBUFFERED", "1")
    env.update(entry["environment"])
    env = {**network(plan, env), **env}
    # After the person's own: what they put there themselves comes first. STARTUP takes itself away.
    env["PYTHONPATH"] = os.pathsep.join(filter(None, [STARTUP, env.get("PYTHONPATH"), CLIENT]))
    env.update(
        HPCTF_RUN_ID=plan["run_id"],
        HPCTF_EXPERIMENT=plan["experiment"],
        HPCTF_RUN_FOLDER=run_folder,
        HPCTF_OUTPUTS_DIR=os.path.join(run_folder, "outputs"),
        HPCTF_CHECKPOINT_DIR=os.path.join(run_folder, "checkpoints"),
        HPCTF_RESTART_COUNT=str(attempt_of(inherited)),
        HPCTF_BACKEND=plan["backend"],
        HPCTF_ROLE=me.role,
        HPCTF_INDEX=str(me.index),
        HPCTF_RANK=str(me.rank),
        HPCTF_LOCAL_RANK=str(me.local_rank),
        HPCTF_WORLD_SIZE=str(me.world_size),
    )
    if not entry["container"]:
        env["HPCTF_PYTHON"] = sys.executable
    resumed = plan["resumed_from"] or plan.get("resumed_outputs")
    if resumed:
        env["HPCTF_RESUMED_FROM"] = resumed
    if not plan.get("azureml", True):
        env["HPCTF_WITHOUT_AZUREML"] = "1"
    env.update(preflight(plan, me))
    env.update(gpu_share(plan, me, inherited))
    return env


def preflight(plan: dict[str, Any], me: Identity) -> dict[str, str]:
    """Return the variables by which ranks find out whether they fit together (`hpctf.startup`)."""
    entry, launch = plan["entry"], plan["launch"]
    python = entry["command"][0] == entry["python"] or role_named(plan, me.role)["runs"] == "server"
    return {
        "HPCTF_PREFLIGHT": ("script" if python else "program") if me.world_size > 1 else "",
        "HPCTF_LAUNCHER": " ".join([launch["method"], *launch["options"]]),
    }


def network(plan: dict[str, Any], env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that name the site's network interfaces, for where none are set."""
    interfaces = ",".join(plan["interfaces"])
    if not interfaces:
        return {}
    names = ["NCCL_SOCKET_IFNAME", "GLOO_SOCKET_IFNAME"]
    if "OMPI_MCA_btl_tcp_if_exclude" not in env:  # Open MPI refuses to be given both
        names.append("OMPI_MCA_btl_tcp_if_include")
    return dict.fromkeys(names, interfaces)


def gpu_share(plan: dict[str, Any], me: Identity, env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that show this rank its share of the node's GPUs, and no other.

    The node's GPUs are split evenly, in order, between its ranks that use GPUs; roles that use
    none see none. Nothing changes in a job without GPUs, when pinning is switched off, or where
    Slurm has given each rank its own. Where no GPUs were requested, since a node comes with
    all of them, it names none: they are counted from 0.
    """
    if not any(component["gpus_per_node"] for component in plan["components"]):
        return {}
    role = role_named(plan, me.role)
    if not role["uses_gpu"]:
        return dict.fromkeys(GPU_VARIABLES, "")
    if not plan["pin_gpus"]:
        return {}
    present = {name: env[name] for name in GPU_VARIABLES if env.get(name)}
    component = plan["components"][role["component"]]
    asked = any(key == "gres" or key.startswith("gpus") for key, _ in component["directives"])
    if not present and plan["scheduler"] == "slurm" and not asked:
        # ROCm heeds this variable, too; with its own besides, it would choose among the chosen.
        present = {GPU_VARIABLES[0]: ",".join(map(str, range(component["gpus_per_node"])))}
    position, sharing = _position_among_gpu_ranks(plan, me, env)
    share = {}
    for name, listed in present.items():
        devices = listed.split(",")
        if _is_bound(env, len(devices)):
            continue
        each = max(1, len(devices) // sharing)
        share[name] = ",".join(devices[position * each : (position + 1) * each])
        if not share[name]:
            raise ClusterSpecError(
                f"{sharing} ranks of {me.host} share {len(devices)} GPUs ({name}={listed}), "
                f"which leaves none for {me.name}",
                "Ask for more GPUs per node (--gpus), or for fewer ranks per node "
                "(--procs-per-node).",
            )
    return share


_BINDINGS = ("SLURM_GPU_BIND", "SLURM_TRES_BIND")
_PER_TASK = ("SLURM_GPUS_PER_TASK", "SLURM_NTASKS_PER_GPU")


def _is_bound(env: Mapping[str, str], devices: int) -> bool:
    """Whether what a rank sees has been chosen by Slurm for this rank alone. It has if somebody
    chose how (srun(1), ``--gpu-bind``, ``--gpus-per-task`` ...), or if the rank sees fewer GPUs
    than its step has on the node. A daemon of mpirun's is a task of its own: its ranks share what
    it sees, so the batch script takes these choices away (mpi.sbatch.j2)."""
    if any(env.get(name) for name in _PER_TASK) or "gpu" in env.get("SLURM_TRES_PER_TASK", ""):
        return True
    for name in _BINDINGS:
        kinds = env.get(name, "").replace("gres/gpu:", "").split(",")
        if any(kind.split(":")[0] in _CHOSEN for kind in kinds):
            return True
    on_node = env.get("SLURM_GPUS_ON_NODE", "")
    return on_node.isdigit() and devices < int(on_node)


_CHOSEN = ("single", "per_task", "map_gpu", "mask_gpu", "map", "mask")
"""How ``--gpu-bind`` and ``--tres-bind`` choose GPUs for each task; ``none`` and ``closest`` do not
keep two ranks apart."""


def _position_among_gpu_ranks(
    plan: dict[str, Any], me: Identity, env: Mapping[str, str]
) -> tuple[int, int]:
    """Return (this rank's position, number) among the ranks of its host that use GPUs."""
    if "OMPI_COMM_WORLD_LOCAL_SIZE" in env:
        return me.local_rank, int(env["OMPI_COMM_WORLD_LOCAL_SIZE"])
    tasks = cluster_spec.tasks_from_environment(env)
    here = tasks[me.rank].host
    counts = role_counts(plan)
    using = [
        task.rank
        for task in tasks
        if task.host == here
        and role_named(plan, cluster_spec.role_of(counts, task.rank)[0])["uses_gpu"]
    ]
    return using.index(me.rank), len(using)


_UNSET = "***unset***"
"""How conda marks a variable that its owner has removed."""


def _place_of(python: str, path: str) -> dict[str, str]:
    """Return what a virtual or a conda environment's ``activate`` would set, if `python` lies in
    one. A bare name is found on PATH, and lies in none that would not be set already."""
    if not os.path.isabs(python):
        return {}
    folder = os.path.dirname(python)
    home = os.path.dirname(folder)
    if os.path.exists(os.path.join(home, "pyvenv.cfg")):
        return {"VIRTUAL_ENV": home, "PATH": f"{folder}{os.pathsep}{path}"}
    if os.path.isdir(os.path.join(home, "conda-meta")):
        place = {"CONDA_PREFIX": home, "PATH": f"{folder}{os.pathsep}{path}"}
        return {**_conda_variables(home), **place}
    return {}


def _conda_variables(home: str) -> dict[str, str]:
    """Return what a conda environment's packages set, and then what its owner has set in it
    (``conda env config vars``, an ``environment.yml``'s ``variables``)."""
    import json

    packages = os.path.join(home, "etc/conda/env_vars.d")
    names = sorted(os.listdir(packages)) if os.path.isdir(packages) else []
    files = [os.path.join(packages, name) for name in names if name.endswith(".json")]
    found: dict[str, str] = {}
    for file in (*files, os.path.join(home, "conda-meta/state")):
        try:
            with open(file, encoding="utf-8") as content:
                said = json.load(content)
            found.update(said if file in files else said.get("env_vars", {}))
        except (OSError, ValueError, AttributeError, TypeError):
            continue  # as conda, which warns of it and goes on
    return {key: str(value) for key, value in found.items() if value != _UNSET}
