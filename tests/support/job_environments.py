"""The environments that Slurm, MPI and the local launcher really make, and who is where in them.

They were printed by tasks on Slurm 22.05.8 with Open MPI 4.1.4.
"""

from __future__ import annotations

from collections import Counter

from hpctf.cluster_spec import (
    Task,
    tasks_from_environment,
)

# sbatch -N2 --ntasks=5, in the batch script
BATCH = {
    "SLURMD_NODENAME": "n1",
    "SLURM_JOB_ID": "33",
    "SLURM_JOB_NODELIST": "n[1-2]",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "0",
    "SLURM_NTASKS": "5",
    "SLURM_PROCID": "0",
    "SLURM_TASKS_PER_NODE": "3,2",
}

# srun in that job: rank 3, on the second host
STEP = {
    **BATCH,
    "PMIX_RANK": "3",
    "SLURMD_NODENAME": "n2",
    "SLURM_DISTRIBUTION": "block",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "1",
    "SLURM_PROCID": "3",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "n[1-2]",
    "SLURM_STEP_NUM_NODES": "2",
    "SLURM_STEP_NUM_TASKS": "5",
    "SLURM_STEP_TASKS_PER_NODE": "3,2",
}

# the batch script of a heterogeneous job: 2 tasks on n3, then 4 tasks on n1 and n2
HET_BATCH = {
    "SLURMD_NODENAME": "n3",
    "SLURM_HET_SIZE": "2",
    "SLURM_JOB_ID": "30",
    "SLURM_JOB_ID_HET_GROUP_0": "30",
    "SLURM_JOB_ID_HET_GROUP_1": "31",
    "SLURM_JOB_NODELIST": "n3",
    "SLURM_JOB_NODELIST_HET_GROUP_0": "n3",
    "SLURM_JOB_NODELIST_HET_GROUP_1": "n[1-2]",
    "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_HET_GROUP_0": "2",
    "SLURM_NTASKS_HET_GROUP_1": "4",
    "SLURM_PROCID": "0",
    "SLURM_TASKS_PER_NODE": "2",
    "SLURM_TASKS_PER_NODE_HET_GROUP_0": "2",
    "SLURM_TASKS_PER_NODE_HET_GROUP_1": "3,1",
}

# srun --het-group=0 ... : --het-group=1 ...: rank 2. Slurm has sorted the hosts of the step.
HET_STEP = {
    **HET_BATCH,
    "SLURMD_NODENAME": "n1",
    "SLURM_DISTRIBUTION": "block",
    "SLURM_JOB_NODELIST": "n[1-3]",
    "SLURM_LOCALID": "0",
    "SLURM_NODEID": "1",
    "SLURM_NTASKS": "6",
    "SLURM_PROCID": "2",
    "SLURM_STEP_ID": "0",
    "SLURM_STEP_NODELIST": "n[1-3]",
    "SLURM_STEP_NUM_TASKS": "6",
    "SLURM_STEP_TASKS_PER_NODE": "3,1,2",
    "SLURM_TASKS_PER_NODE": "3,1,2",
}

# mpirun in a batch script: rank 5, below a daemon that mpirun started with srun
MPIRUN = {
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "5",
    "OMPI_COMM_WORLD_SIZE": "8",
    "PMIX_RANK": "5",
    "SLURMD_NODENAME": "n2",
    "SLURM_DISTRIBUTION": "cyclic",
    "SLURM_JOB_ID": "33",
    "SLURM_JOB_NODELIST": "n[1-2]",
    "SLURM_LOCALID": "0",
    "SLURM_NTASKS": "1",
    "SLURM_PROCID": "0",
    "SLURM_STEP_ID": "4",
    "SLURM_STEP_NODELIST": "n2",
    "SLURM_STEP_NUM_TASKS": "1",
    "SLURM_STEP_TASKS_PER_NODE": "1",
    "SLURM_TASKS_PER_NODE": "1",
}

# mpirun's rank 1 on its own host, below the batch script
MPIRUN_FIRST_HOST = {
    **BATCH,
    "OMPI_COMM_WORLD_LOCAL_RANK": "1",
    "OMPI_COMM_WORLD_LOCAL_SIZE": "4",
    "OMPI_COMM_WORLD_RANK": "1",
    "OMPI_COMM_WORLD_SIZE": "8",
    "SLURM_NTASKS": "8",
    "SLURM_TASKS_PER_NODE": "4(x2)",
}

# submitit's LocalExecutor: the second of three tasks
LOCAL = {
    "SUBMITIT_EXECUTOR": "local",
    "SUBMITIT_LOCAL_GLOBALID": "1",
    "SUBMITIT_LOCAL_JOB_ID": "4711",
    "SUBMITIT_LOCAL_JOB_NUM_NODES": "1",
    "SUBMITIT_LOCAL_LOCALID": "1",
    "SUBMITIT_LOCAL_NODEID": "0",
    "SUBMITIT_LOCAL_NTASKS": "3",
}

PS_ROLES = {"chief": 1, "worker": 3, "ps": 1}


def hosts_by_rank(env: dict[str, str]) -> str:
    tasks = tasks_from_environment(env)
    assert [task.rank for task in tasks] == list(range(len(tasks)))
    return " ".join(task.host for task in tasks)


def tasks_on(*hosts: str) -> list[Task]:
    taken: Counter[str] = Counter()
    tasks = []
    for rank, host in enumerate(hosts):
        tasks.append(Task(rank, host, taken[host]))
        taken[host] += 1
    return tasks
