"""What a job's environment variables say: who this task is, and where the others are.

Slurm, mpirun and submitit's local launcher each set their own; one function a question hides
which of them it was. `hpctf.cluster_spec` builds TF_CONFIG on it.

Every rank of a job imports this module before its training starts, so it imports next to nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from hpctf.errors import ClusterSpecError, HostlistError
from hpctf.placement.hostlist import Host, Task, expand_hostlist, placement, tasks_from_placement

# Variable names by launcher: the first that is set counts.
_OPEN_MPI = {
    "rank": ("OMPI_COMM_WORLD_RANK",),
    "local rank": ("OMPI_COMM_WORLD_LOCAL_RANK",),
    "world size": ("OMPI_COMM_WORLD_SIZE",),
}
_HYDRA = {  # mpiexec of MPICH, Intel MPI and MVAPICH
    "rank": ("PMI_RANK", "PMIX_RANK"),
    "local rank": ("MPI_LOCALRANKID",),
    "world size": ("PMI_SIZE",),
}
_SLURM = {
    "rank": ("SLURM_PROCID", "PMIX_RANK", "PMI_RANK"),
    "local rank": ("SLURM_LOCALID",),
    "world size": ("SLURM_STEP_NUM_TASKS", "SLURM_NTASKS"),
}
_LOCAL = {
    "rank": ("SUBMITIT_LOCAL_GLOBALID",),
    "local rank": ("SUBMITIT_LOCAL_LOCALID",),
    "world size": ("SUBMITIT_LOCAL_NTASKS",),
}

# Ids of Slurm's own steps (slurm.h): they run a script or a shell, not the job's tasks.
_SCRIPT_STEPS = ("batch", "interactive", "4294967291", "4294967290")

_INSIDE_A_JOB = (
    "Run this inside a Slurm job, in a task that srun started, or give the tasks yourself."
)


def tasks_from_environment(env: Mapping[str, str]) -> list[Task]:
    """Return the tasks of the job that `env` belongs to, in rank order.

    Understood are the environments of a task that srun started (also over several components of
    a heterogeneous job), of a batch script (also of a heterogeneous job), of a rank under mpirun,
    and of submitit's local launcher.

    Raises
    ------
    ClusterSpecError
        When there is no job in it, or ranks are dealt out in a way that cannot be retraced.
    """
    launcher = _launcher(env)
    if launcher is _LOCAL:
        return tasks_from_placement([Host("localhost", world_size_from_environment(env))])
    if launcher is not _SLURM and not _is_step_rank(env):
        tasks = tasks_from_placement(_hosts_under_mpirun(env))
    elif _in_step(env):
        tasks = _tasks_of_components(_step_components(env), env)
    else:
        return _tasks_of_components(_allocation_components(env), env)
    _check_own_place(tasks, env)
    return tasks


def rank_from_environment(env: Mapping[str, str]) -> int:
    """Return this task's rank among all tasks.

    mpirun's variables come before Slurm's: under mpirun every rank sees the SLURM_PROCID of
    mpirun or of its daemon.
    """
    return _own(env, "rank")


def local_rank_from_environment(env: Mapping[str, str]) -> int:
    """Return this task's rank among the tasks of its host."""
    return _own(env, "local rank")


def world_size_from_environment(env: Mapping[str, str]) -> int:
    """Return how many tasks there are."""
    if _launcher(env) is _SLURM and not _in_step(env) and _components(env):
        return len(tasks_from_environment(env))
    return _own(env, "world size")


def job_id_from_environment(env: Mapping[str, str]) -> str:
    """Return what sets this job apart: all its components and ranks see the same."""
    if _launcher(env) is not _LOCAL and "SLURM_JOB_ID" in env:
        return env["SLURM_JOB_ID"]
    if "SUBMITIT_LOCAL_JOB_ID" in env:
        return env["SUBMITIT_LOCAL_JOB_ID"]
    raise ClusterSpecError("the job id is unknown: SLURM_JOB_ID is not set", hint=_INSIDE_A_JOB)


def _launcher(env: Mapping[str, str]) -> Mapping[str, tuple[str, ...]]:
    """Return the variables of whatever started this process last."""
    if "OMPI_COMM_WORLD_RANK" in env:
        return _OPEN_MPI
    if "MPI_LOCALRANKID" in env:
        return _HYDRA
    executor = env.get("SUBMITIT_EXECUTOR", "slurm" if "SLURM_JOB_ID" in env else "local")
    return _LOCAL if "SUBMITIT_LOCAL_NTASKS" in env and executor == "local" else _SLURM


def _own(env: Mapping[str, str], what: str) -> int:
    names = _launcher(env)[what]
    for name in names:
        if name in env:
            return number_of(name, env[name])
    raise ClusterSpecError(
        f"the {what} is unknown: {' or '.join(names)} is not set", hint=_INSIDE_A_JOB
    )


def number_of(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise ClusterSpecError(
            f"{name} is {text[:80]!r}, which is not a whole number",
            hint="Give or set it as digits only; Slurm and MPI do.",
        )
    return int(text)


def _in_step(env: Mapping[str, str]) -> bool:
    return "SLURM_STEP_NODELIST" in env and env.get("SLURM_STEP_ID") not in _SCRIPT_STEPS


def _is_step_rank(env: Mapping[str, str]) -> bool:
    """Tell an MPI rank that srun started from one that a daemon of mpirun started."""
    own = (str(rank_from_environment(env)), str(world_size_from_environment(env)))
    return _in_step(env) and own == (env.get("SLURM_PROCID"), env.get("SLURM_STEP_NUM_TASKS"))


def _hosts_under_mpirun(env: Mapping[str, str]) -> list[Host]:
    """Return where mpirun's ranks are: it fills host after host unless told otherwise. Slurm's task
    counts are no help: on all hosts but the first they are those of mpirun's daemons."""
    size = world_size_from_environment(env)
    name = "OMPI_COMM_WORLD_LOCAL_SIZE" if "OMPI_COMM_WORLD_RANK" in env else "MPI_LOCALNRANKS"
    each = number_of(name, _variable(env, name))
    if each == size:
        return [Host(env.get("SLURMD_NODENAME", "localhost"), size)]
    hosts = expand_hostlist(_variable(env, "SLURM_JOB_NODELIST"))
    if each * len(hosts) != size:
        raise ClusterSpecError(
            f"mpirun started {size} ranks, {each} of them on this host of {len(hosts)}: where the "
            "others are, its variables do not say",
            hint="Start as many ranks on every host, start them with srun, or give the tasks.",
        )
    return [Host(host, each) for host in hosts]


def _variable(env: Mapping[str, str], name: str) -> str:
    if name not in env:
        raise ClusterSpecError(f"no job to read tasks from: {name} is not set", hint=_INSIDE_A_JOB)
    return env[name]


def _placement(env: Mapping[str, str], hosts_name: str, tasks_name: str) -> list[Host]:
    hosts, tasks = _variable(env, hosts_name), _variable(env, tasks_name)
    try:
        return placement(hosts, tasks)
    except HostlistError as error:
        raise ClusterSpecError(f"{hosts_name}, {tasks_name}: {error.message}", error.hint) from None


def _step_components(env: Mapping[str, str]) -> list[list[Host]]:
    """Return the hosts of this step, in rank order, by component of the job. Over several
    components Slurm writes the step's hosts sorted by name, but deals out its ranks component by
    component (measured on 22.05): component 0 on n3 has the first ranks of n[1-3]."""
    hosts = _placement(env, "SLURM_STEP_NODELIST", "SLURM_STEP_TASKS_PER_NODE")
    component = {
        name: number
        for number in range(_components(env))
        for name in expand_hostlist(_variable(env, f"SLURM_JOB_NODELIST_HET_GROUP_{number}"))
    }
    groups: dict[int, list[Host]] = {}
    for host in hosts:
        groups.setdefault(component.get(host.name, 0), []).append(host)
    return [groups[number] for number in sorted(groups)]


def _allocation_components(env: Mapping[str, str]) -> list[list[Host]]:
    """Return the hosts of the whole job, as its batch script sees them, by component."""
    groups = [f"_HET_GROUP_{number}" for number in range(_components(env))]
    return [_allocation(env, group) for group in groups or [""]]


def _allocation(env: Mapping[str, str], group: str) -> list[Host]:
    hosts = _placement(env, f"SLURM_JOB_NODELIST{group}", f"SLURM_TASKS_PER_NODE{group}")
    room = sum(host.slots for host in hosts)
    wanted = env.get(f"SLURM_NTASKS{group}", str(room))
    if wanted != str(room):
        # --ntasks=5 --ntasks-per-node=4 has SLURM_TASKS_PER_NODE=4(x2); srun then starts 3 and 2.
        raise ClusterSpecError(
            f"SLURM_NTASKS{group} is {wanted}, but SLURM_TASKS_PER_NODE{group} makes {room}: where "
            "srun will start the tasks is not known yet",
            hint="Ask inside a task that srun started, or let --ntasks be the nodes times the "
            "tasks per node.",
        )
    return hosts


def _components(env: Mapping[str, str]) -> int:
    """Return how many components this job has, 0 if it is not heterogeneous. A job that a
    heterogeneous job submitted inherits variables that are not its own."""
    leader = env.get("SLURM_JOB_ID_HET_GROUP_0", env.get("SLURM_JOB_ID"))
    if "SLURM_HET_SIZE" not in env or leader != env.get("SLURM_JOB_ID"):
        return 0
    return number_of("SLURM_HET_SIZE", env["SLURM_HET_SIZE"])


def _tasks_of_components(components: list[list[Host]], env: Mapping[str, str]) -> list[Task]:
    """Return the tasks of all components: ranks run on, but are dealt out within each."""
    distribution = env.get("SLURM_DISTRIBUTION", "block")
    plane_size = env.get("SLURM_DIST_PLANESIZE")
    size = None if plane_size is None else number_of("SLURM_DIST_PLANESIZE", plane_size)
    tasks: list[Task] = []
    for hosts in components:
        dealt = tasks_from_placement(hosts, distribution, size)
        tasks += [Task(len(tasks) + task.rank, task.host, task.local_rank) for task in dealt]
    return tasks


def _check_own_place(tasks: Sequence[Task], env: Mapping[str, str]) -> None:
    """Refuse tasks among which this one is not where it runs: training would hang, not fail."""
    launcher = _launcher(env)
    if not any(name in env for name in launcher["rank"]):
        return
    rank = rank_from_environment(env)
    if rank >= len(tasks):
        raise ClusterSpecError(
            f"this is rank {rank}, but the job's variables tell of {len(tasks)} tasks only",
            hint="They may come from a job around this one; give the tasks yourself.",
        )
    expected = tasks[rank]
    # mpiexec of MPICH and its kin copies this variable from its own host to every rank.
    host = expected.host if launcher is _HYDRA else env.get("SLURMD_NODENAME", expected.host)
    local_rank = env.get(launcher["local rank"][0], str(expected.local_rank))
    if (host, local_rank) != (expected.host, str(expected.local_rank)):
        raise ClusterSpecError(
            f"rank {rank} should be task {expected.local_rank} of host {expected.host} by the "
            f"job's variables, but it is task {local_rank} of host {host}",
            hint="Use one --distribution for all, components of a het job rather than of a step, "
            "and no mapping options of mpirun; or give the tasks yourself.",
        )
