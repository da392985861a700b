"""TF_CONFIG from the places that Slurm gave a job's tasks.

Useful on its own, in anybody's job: nothing else of hpctf is needed. In Python, before TensorFlow
makes its strategy:

    import os
    from hpctf.cluster_spec import tf_config

    os.environ["TF_CONFIG"] = tf_config({"chief": 1, "worker": 2, "ps": 1})

or in the shell of every task (with srun's `bash -c`, not in the batch script itself):

    export TF_CONFIG=$(python -m hpctf.cluster_spec --role chief=1 --role worker=2 --role ps=1)

Ranks take the roles in the order given, and each task listens on a port that follows from the job
id, so that all tasks agree without talking to each other. `rank_from_environment` and its
siblings tell a task who it is under srun, mpirun or a local launcher.

Every rank of a job imports this module before its training starts, so it imports next to nothing.
"""

from __future__ import annotations

import os
from collections import Counter, namedtuple
from collections.abc import Mapping
from math import gcd

from hpctf.errors import ClusterSpecError, HostlistError, did_you_mean
from hpctf.placement.hostlist import Task, tasks_from_placement
from hpctf.placement.job_environment import (
    job_id_from_environment,
    local_rank_from_environment,
    number_of,
    rank_from_environment,
    tasks_from_environment,
    world_size_from_environment,
)

TYPE_CHECKING = False  # not typing's: importing it costs each rank 8 ms
if TYPE_CHECKING:
    from collections.abc import Sequence

    Roles = Mapping[str, int] | Sequence[tuple[str, int]]

__all__ = [
    "MAX_ENVIRONMENT_STRING",
    "ROLE_NAMES",
    "Ports",
    "Task",
    "cluster",
    "local_rank_from_environment",
    "most_on_a_host",
    "rank_from_environment",
    "role_of",
    "task_config",
    "tasks_from_environment",
    "tasks_from_placement",
    "tf_config",
    "world_size_from_environment",
]

ROLE_NAMES = ("chief", "master", "worker", "ps", "evaluator")
"""The task types that TensorFlow knows (`tf.distribute.cluster_resolver`; master is TF 1's)."""

_ONE_AT_MOST = ("chief", "master", "evaluator")

MAX_ENVIRONMENT_STRING = 131_072
"""The most bytes of ``NAME=value`` and its closing NUL: Linux's MAX_ARG_STRLEN, see execve(2)."""

_MAX_PORT = 65_535


class Ports(namedtuple("Ports", ("first", "last"), defaults=(20_000, 29_999))):
    """The TCP ports that a site leaves to training, both ends included."""

    __slots__ = ()
    first: int
    last: int

    def block(self, job_id: int | str, size: int, attempt: int = 0) -> int:
        """Return the first of `size` ports that are a job's to use on each of its hosts.

        Jobs of consecutive ids get different blocks. Further attempts visit all blocks in turn,
        each job in strides of its own: two jobs that met on one block part on the next.

        Raises
        ------
        ClusterSpecError
            When the range has no room for `size` ports, or the job id is no number.
        """
        blocks = self.blocks(size)
        lap, first = divmod(number_of("job id", str(job_id)), blocks)
        return self.first + (first + attempt * _stride(lap, blocks)) % blocks * max(size, 1)

    def blocks(self, size: int) -> int:
        """Return how many blocks of `size` ports there are, at least one.

        Raises
        ------
        ClusterSpecError
            When the range is none, or has no room for `size` ports.
        """
        if not 1 <= self.first <= self.last <= _MAX_PORT:
            raise ClusterSpecError(
                f"ports {self.first}-{self.last} are no range within 1-{_MAX_PORT}",
                hint="Give the lower port first, such as 20000-29999.",
            )
        room = self.last - self.first + 1
        blocks = room // max(size, 1)
        if blocks == 0:
            raise ClusterSpecError(
                f"ports {self.first}-{self.last} are {room}, but one host has {size} tasks, each "
                "with a port of its own",
                hint=f"Widen the site's ports to at least {size}, or put fewer tasks on a host.",
            )
        return blocks


def _stride(lap: int, blocks: int) -> int:
    """Return how far apart two tries are: without a divisor in common with `blocks`, so that
    every block is visited. Job ids that begin on the same block are laps apart."""
    stride = 1 + lap % max(blocks - 1, 1)
    while gcd(stride, blocks) != 1:
        stride += 1
    return stride


_DEFAULT_PORTS = Ports()


def tf_config(
    roles: Roles,
    env: Mapping[str, str] | None = None,
    *,
    rank: int | None = None,
    tasks: Sequence[Task] | None = None,
    ports: Ports = _DEFAULT_PORTS,
    job_id: int | str | None = None,
    attempt: int = 0,
    host_suffix: str = "",
) -> str:
    """Return the TF_CONFIG of one task, as JSON.

    Parameters
    ----------
    roles
        How many tasks each role has, in rank order: ``{"chief": 1, "worker": 2}``.
    env
        The task's environment; `os.environ` unless given.
    rank, tasks, job_id
        What to use instead of what the environment says.
    ports
        The range that the tasks' ports are taken from.
    attempt
        Moves all tasks on to another block of ports; every task must be given the same.
    host_suffix
        Makes the address of another network out of a host's name (`cluster`).

    Raises
    ------
    ClusterSpecError
        When the environment says too little, the roles do not fit the tasks, or the text is more
        than Linux lets a process have in one variable (`MAX_ENVIRONMENT_STRING`).
    """
    env = os.environ if env is None else env
    tasks = tasks_from_environment(env) if tasks is None else tasks
    block = ports.block(
        job_id_from_environment(env) if job_id is None else job_id, most_on_a_host(tasks), attempt
    )
    addresses = cluster(roles, tasks, block, host_suffix)
    role, index = role_of(roles, rank_from_environment(env) if rank is None else rank)
    return task_config(addresses, role, index)


def task_config(addresses: dict[str, list[str]], role: str, index: int) -> str:
    """Return TF_CONFIG of one task of a `cluster`, as JSON.

    Raises
    ------
    ClusterSpecError
        When it is more than Linux lets a process have in one variable.
    """
    import json

    task = {"type": role, "index": index}
    config = {"cluster": addresses, "task": task, "environment": "cloud"}
    text = json.dumps(config, separators=(",", ":"))
    size = len("TF_CONFIG=") + len(text) + 1  # JSON as we write it is ASCII; a NUL ends it
    if size > MAX_ENVIRONMENT_STRING:
        tasks = sum(len(hosts) for hosts in addresses.values())
        raise ClusterSpecError(
            f"TF_CONFIG of {tasks:,} tasks is {size:,} bytes; Linux takes at most "
            f"{MAX_ENVIRONMENT_STRING:,} in one variable",
            hint=f"Use at most about {tasks * MAX_ENVIRONMENT_STRING // size:,} tasks with such "
            "host names, or the mpi backend, which needs no TF_CONFIG.",
        )
    return text


def cluster(
    roles: Roles, tasks: Sequence[Task], ports: int | Sequence[int], host_suffix: str = ""
) -> dict[str, list[str]]:
    """Return TensorFlow's ClusterSpec: each role's ``host:port`` addresses, by index.

    The first role takes the first ranks, and so on. A role without tasks is left out, as
    TensorFlow wants it.

    Parameters
    ----------
    ports
        The first port of a block: a task's is this one plus its place among the tasks of its
        host, so no two tasks of a host share one. Or the port of every task, by rank.
    host_suffix
        What the hosts' names end in on the network to use: ``-ib`` where ``n1-ib`` is the
        address of ``n1`` there.

    Raises
    ------
    ClusterSpecError
        When the roles are not TensorFlow's, or do not add up to the tasks.
    """
    counts = _checked_roles(roles)
    wanted = sum(count for _, count in counts)
    if wanted != len(tasks):
        raise ClusterSpecError(
            f"roles {_written(counts)} are {wanted} tasks, but the job has {len(tasks)}",
            hint=f"Start {wanted} tasks (srun --ntasks={wanted}), or change the roles.",
        )
    addresses = _addresses(tasks, ports, host_suffix)
    spec: dict[str, list[str]] = {}
    first = 0
    for name, count in counts:
        if count:
            spec[name] = addresses[first : first + count]
            first += count
    return spec


def role_of(roles: Roles, rank: int) -> tuple[str, int]:
    """Return the role of a rank, and its index within that role."""
    counts = _checked_roles(roles)
    first = 0
    for name, count in counts:
        if first <= rank < first + count:
            return name, rank - first
        first += count
    raise ClusterSpecError(
        f"rank {rank} has no role: {_written(counts)} are for ranks 0 to {first - 1}",
        hint="Start as many tasks as the roles need, or change the roles.",
    )


def _checked_roles(roles: Roles) -> list[tuple[str, int]]:
    """Return the roles as pairs, once they are TensorFlow's."""
    pairs = list(roles.items() if isinstance(roles, Mapping) else roles)
    names = [name for name, _ in pairs]
    for name, count in pairs:
        if name not in ROLE_NAMES:
            raise ClusterSpecError(
                f"role {name!r} is none of TensorFlow's: {', '.join(ROLE_NAMES)}",
                hint="Rename the role." + did_you_mean(str(name), list(ROLE_NAMES)),
            )
        if names.count(name) > 1:
            raise ClusterSpecError(
                f"role {name!r} is given {names.count(name)} times in {_written(pairs)}",
                hint="Give each role once, with all its tasks: their ranks follow each other.",
            )
        if count < 0 or (count > 1 and name in _ONE_AT_MOST):
            allowed = "0 or 1" if name in _ONE_AT_MOST else "0 or more"
            raise ClusterSpecError(
                f"role {name!r} has {count} tasks; TensorFlow allows {allowed}",
                hint="Make the others workers." if count > 1 else "Counts cannot be negative.",
            )
    return pairs


def _written(roles: Sequence[tuple[str, int]]) -> str:
    return ", ".join(f"{name}={count}" for name, count in roles) or "(none)"


def most_on_a_host(tasks: Sequence[Task]) -> int:
    """Return how many ports a host needs: the size of a block."""
    return max(Counter(task.host for task in tasks).values(), default=0)


def _addresses(tasks: Sequence[Task], ports: int | Sequence[int], host_suffix: str) -> list[str]:
    in_block: dict[str, int] = {}
    addresses = []
    for rank, task in enumerate(tasks):
        if task.rank != rank:
            raise ClusterSpecError(
                f"tasks are not in rank order: number {rank} has rank {task.rank}",
                hint="Give every task once, from rank 0 on.",
            )
        if isinstance(ports, int):
            port = in_block.get(task.host, ports)
            in_block[task.host] = port + 1
        else:
            port = ports[rank]
        addresses.append(f"{task.host}{host_suffix}:{port}")
    return addresses


def _parsed_pair(text: str, separator: str, form: str) -> tuple[str, str]:
    left, found, right = text.partition(separator)
    if not found:
        raise ClusterSpecError(
            f"{text!r} is not {form}", hint=f"Put {separator!r} between the two."
        )
    return left, right


def main(arguments: Sequence[str] | None = None) -> int:
    """Print this task's TF_CONFIG: ``python -m hpctf.cluster_spec --role worker=2``."""
    import argparse
    import sys

    parser = argparse.ArgumentParser(
        prog="python -m hpctf.cluster_spec",
        description="Print the TF_CONFIG of this task of a Slurm job.",
    )
    roles_help = "a role and its tasks; repeat it, in rank order"
    parser.add_argument(
        "--role", action="append", required=True, metavar="NAME=COUNT", help=roles_help
    )
    parser.add_argument("--rank", type=int, help="of the task; what the environment says")
    parser.add_argument("--ports", default="20000-29999", metavar="FIRST-LAST", help="%(default)s")
    parser.add_argument("--host-suffix", default="", metavar="TEXT", help="after each host's name")
    parser.add_argument("--attempt", type=int, default=0, help="moves on to other ports")
    given = parser.parse_args(arguments)
    try:
        first, last = _parsed_pair(given.ports, "-", "FIRST-LAST")
        ports = Ports(number_of("--ports", first), number_of("--ports", last))
        pairs = [_parsed_pair(role, "=", "NAME=COUNT") for role in given.role]
        roles = [(name, number_of(f"--role {name}", count)) for name, count in pairs]
        chosen = {"ports": ports, "attempt": given.attempt, "host_suffix": given.host_suffix}
        print(tf_config(roles, rank=given.rank, **chosen))
    except (ClusterSpecError, HostlistError) as error:
        print(error, file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
