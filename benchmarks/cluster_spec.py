"""How long one rank of a large job takes to make its TF_CONFIG.

    python benchmarks/cluster_spec.py

Prints the best and the median of 30 runs, from Slurm's variables to the JSON text, and what
importing the module costs in a fresh interpreter.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

from hpctf.cluster_spec import Ports, cluster, role_of, tasks_from_environment, tf_config

TASKS = 10_000
ROLES = [("chief", 1), ("ps", 99), ("worker", 9_900)]


def environment(hosts: str, tasks_per_node: str) -> dict[str, str]:
    return {
        "SLURM_JOB_ID": "4711",
        "SLURM_PROCID": "0",
        "SLURM_STEP_NODELIST": hosts,
        "SLURM_STEP_NUM_TASKS": str(TASKS),
        "SLURM_STEP_TASKS_PER_NODE": tasks_per_node,
    }


def one_task_a_host() -> None:
    """The same steps as `tf_config`; the text is too long for Linux, so it is only measured."""
    tasks = tasks_from_environment(environment(f"n[00001-{TASKS}]", f"1(x{TASKS})"))
    addresses = cluster(ROLES, tasks, Ports().block("4711", 1))
    role, index = role_of(ROLES, 0)
    json.dumps({"cluster": addresses, "task": {"type": role, "index": index}})


def many_tasks_a_host() -> None:
    tf_config(ROLES, environment("n[1-157]", "64(x156),16"))


def milliseconds(what: Callable[[], None]) -> list[float]:
    times = []
    for _ in range(30):
        start = time.perf_counter()
        what()
        times.append((time.perf_counter() - start) * 1e3)
    return times


def import_milliseconds() -> float:
    script = (
        "import hpctf, time; start = time.perf_counter(); import hpctf.cluster_spec; "
        "print((time.perf_counter() - start) * 1e3)"
    )
    return statistics.median(
        float(subprocess.check_output([sys.executable, "-c", script])) for _ in range(11)
    )


def main() -> None:
    for name, what in [
        (f"{TASKS:,} tasks, one a host", one_task_a_host),
        (f"{TASKS:,} tasks, 64 a host", many_tasks_a_host),
    ]:
        times = milliseconds(what)
        print(f"{name}: best {min(times):.1f} ms, median {statistics.median(times):.1f} ms")
    print(f"import hpctf.cluster_spec: {import_milliseconds():.1f} ms")


if __name__ == "__main__":
    main()
