"""TF_CONFIG of a large job

What a rank takes from Slurm's variables to the text of TF_CONFIG, beside TensorFlow's
SlurmClusterResolver; and what the client takes from an estimator to the batch script. In a process
that has imported both.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.bench import Bench, CannotMeasure, run
from benchmarks.figures import Figure, Goal, value
from benchmarks.peers import TRAINING, python_of
from hpctf import TensorFlow
from hpctf.cluster_spec import Ports, cluster, role_of, tasks_from_environment
from hpctf.planning.planner import make_plan
from hpctf.site.loading import load_site
from hpctf.submission.script import render

NEEDS = (TRAINING,)
QUICK = True
SIZES = (10, 100, 1_000, 10_000)
PER_HOST = 64
ONE, MANY, SCRIPT = "one task per host", "64 tasks per host", "batch script"
RESOLVER = "SlurmClusterResolver, one task per host"
GOALS = (
    Goal("TF_CONFIG of 10,000 tasks ≤ 30 ms, one per host", value(ONE, 10_000), most=30),
    Goal("TF_CONFIG of 10,000 tasks ≤ 30 ms, 64 per host", value(MANY, 10_000), most=30),
    Goal("batch script of 10,000 tasks ≤ 30 ms", value(SCRIPT, 10_000), most=30),
)
RESOLVE = """
import json, time
import tensorflow as tf

for turn in range(4):
    began = time.perf_counter()
    resolver = tf.distribute.cluster_resolver.SlurmClusterResolver(auto_set_gpu=False)
    json.dumps(resolver.cluster_spec().as_dict())
    if turn:
        print((time.perf_counter() - began) * 1e3)
"""


def measure(bench: Bench) -> Iterator[Figure]:
    for size in bench.of(SIZES, (10, 10_000)):
        yield from bench.in_turn(
            {
                ONE: lambda size=size: milliseconds(lambda: config(size, 1)),  # type: ignore[misc]
                MANY: lambda size=size: milliseconds(lambda: config(size, PER_HOST)),  # type: ignore[misc]
                SCRIPT: lambda size=size: milliseconds(lambda: script(bench, size)),  # type: ignore[misc]
            },
            "ms",
            rounds=15,
            size=size,
            size_of="tasks",
        )
    if not bench.quick:
        for size in SIZES:
            yield resolved(python_of(TRAINING), size)


def resolved(python: Path, size: int) -> Figure:
    """Measure TensorFlow's own resolver, in a process of its own."""
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": ""}
    try:
        printed = run(python, "-c", RESOLVE, **environment(size, 1), **quiet)
    except CannotMeasure as error:
        return Figure(RESOLVER, "ms", size=size, size_of="tasks", reason=str(error))
    return Figure(RESOLVER, "ms", tuple(map(float, printed.split())), size, "tasks")


def environment(tasks: int, per_host: int) -> dict[str, str]:
    """Return Slurm's variables of a job with so many tasks."""
    hosts, rest = divmod(tasks, per_host)
    counts = [f"{per_host}(x{hosts})"] * (hosts > 0) + [str(rest)] * (rest > 0)
    return {
        "SLURM_JOB_ID": "4711",
        "SLURM_PROCID": "0",
        "SLURM_LOCALID": "0",
        "SLURM_STEP_NODELIST": f"n[00001-{hosts + (rest > 0):05}]",
        "SLURM_STEP_NUM_TASKS": str(tasks),
        "SLURM_STEP_TASKS_PER_NODE": ",".join(counts),
    }


def config(size: int, per_host: int) -> None:
    """The same steps as `hpctf.cluster_spec.tf_config`, which refuses a text that is too long for
    Linux."""
    roles = [("chief", 1), ("ps", size // 100), ("worker", size - 1 - size // 100)]
    tasks = tasks_from_environment(environment(size, per_host))
    addresses = cluster(roles, tasks, Ports().block("4711", min(size, per_host)))
    role, index = role_of(roles, 0)
    json.dumps({"cluster": addresses, "task": {"type": role, "index": index}})


def script(bench: Bench, size: int) -> None:
    """From an estimator to the text of its batch script."""
    (bench.folder / "train.py").touch()
    estimator = TensorFlow(
        bench.folder,
        entry_script="train.py",
        distributed_backend="collective",
        node_count=size,
        python=sys.executable,
    )
    run_folder = str(bench.folder / "run")
    planned = make_plan(
        estimator, load_site("slurm"), run_id="r", experiment="e", run_folder=run_folder
    )
    render(planned.plan)


def milliseconds(what: Callable[[], None]) -> float:
    """Return how long a call takes."""
    began = time.perf_counter()
    what()
    return (time.perf_counter() - began) * 1e3
