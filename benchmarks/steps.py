"""Steps per second while training

The same script under hpctf and in a batch script written by hand, in jobs that take turns: `mpi` is
2 ranks with Horovod, `ps` a chief, 2 workers and a parameter server, `collective` 2 workers with
MultiWorkerMirroredStrategy. The script times its own steps, after those that trace and warm up.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from functools import partial

from benchmarks.bench import Bench, CannotMeasure, printed_by
from benchmarks.figures import Figure, Goal, ratio
from benchmarks.peers import TRAINING, python_of
from benchmarks.queue import wait_until_empty

NEEDS = ("slurm", TRAINING)
STEPS = 600
HANGS_S = 300

COMMON = """
import json, os, sys, time
import numpy as np
import tensorflow as tf

steps, report = int(sys.argv[1]), sys.argv[2]
random = np.random.default_rng(0)
images = random.random((64, 784), "float32")  # no tensors yet: a strategy comes before them
labels = random.integers(0, 10, 64)
sizes = [784, 512, 512, 10]


def variables(aggregation=tf.VariableAggregation.NONE):
    return [
        tf.Variable(
            tf.random.stateless_normal(shape, seed=[1, n]) * 0.05, aggregation=aggregation
        )
        for n, shape in enumerate(zip(sizes, sizes[1:]))
    ]


def loss_of(layers):
    hidden = tf.constant(images)
    for layer in layers[:-1]:
        hidden = tf.nn.relu(hidden @ layer)
    logits = hidden @ layers[-1]
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))


def rate_of(step):
    for _ in range(20):
        step()
    began = time.perf_counter()
    for _ in range(steps):
        step()
    return steps / (time.perf_counter() - began)
"""

MPI = """
import horovod.tensorflow as hvd
hvd.init()
layers = variables()
hvd.broadcast_variables(layers, root_rank=0)


@tf.function
def step():
    with tf.GradientTape() as tape:
        loss = loss_of(layers)
    tape = hvd.DistributedGradientTape(tape)
    for layer, gradient in zip(layers, tape.gradient(loss, layers)):
        layer.assign_sub(0.01 * gradient)


rate = rate_of(step)
if hvd.rank() == 0:
    open(report, "w").write(json.dumps(rate))
"""

PS = """
resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
if resolver.task_type in ("worker", "ps"):
    tf.distribute.Server(
        resolver.cluster_spec(),
        job_name=resolver.task_type,
        task_index=resolver.task_id,
        protocol="grpc",
    ).join()
strategy = tf.distribute.ParameterServerStrategy(resolver)
coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
with strategy.scope():
    layers = variables()


@tf.function
def step():
    with tf.GradientTape() as tape:
        loss = loss_of(layers)
    for layer, gradient in zip(layers, tape.gradient(loss, layers)):
        layer.assign_sub(0.01 * gradient)


def run(number):
    for _ in range(number):
        coordinator.schedule(step)
    coordinator.join()


run(40)
began = time.perf_counter()
run(steps)
taken = time.perf_counter() - began
open(report, "w").write(json.dumps(steps / taken))
"""

COLLECTIVE = """
strategy = tf.distribute.MultiWorkerMirroredStrategy()
with strategy.scope():
    layers = variables(tf.VariableAggregation.MEAN)


def replica():
    with tf.GradientTape() as tape:
        loss = loss_of(layers)
    for layer, gradient in zip(layers, tape.gradient(loss, layers)):
        layer.assign_sub(0.01 * gradient)  # exchanges what all replicas subtract


@tf.function
def step():
    strategy.run(replica)


rate = rate_of(step)
if strategy.cluster_resolver.task_id == 0:
    open(report, "w").write(json.dumps(rate))
"""

MPI_BY_HAND = """#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --output={folder}/by-hand.log
srun --mpi=pmix {python} {script} {steps} {report}
"""

PS_BY_HAND = """#!/bin/bash
#SBATCH --nodes=2 --ntasks=3 --output={folder}/by-hand.log
#SBATCH hetjob
#SBATCH --nodes=1 --ntasks=1
read -r -d '' task <<'EOF'
hosts=($(scontrol show hostnames "$SLURM_JOB_NODELIST_HET_GROUP_0"))
ps=$(scontrol show hostnames "$SLURM_JOB_NODELIST_HET_GROUP_1")
roles=(chief worker worker ps)
indices=(0 0 1 0)
spec=$(printf '"chief": ["%s:23450"], "worker": ["%s:23451", "%s:23451"], "ps": ["%s:23450"]' \\
  "${{hosts[0]}}" "${{hosts[0]}}" "${{hosts[1]}}" "$ps")
me=$(printf '"type": "%s", "index": %s' "${{roles[SLURM_PROCID]}}" "${{indices[SLURM_PROCID]}}")
export TF_CONFIG="{{\\"cluster\\": {{$spec}}, \\"task\\": {{$me}}}}"
{python} {script} {steps} {report}
[ "$SLURM_PROCID" != 0 ] || scancel "$SLURM_JOB_ID"
EOF
srun --het-group=0 --distribution=block bash -c "$task" : --het-group=1 bash -c "$task"
"""

COLLECTIVE_BY_HAND = """#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --output={folder}/by-hand.log
read -r -d '' task <<'EOF'
hosts=($(scontrol show hostnames "$SLURM_JOB_NODELIST"))
workers=$(printf '"%s:23450", "%s:23450"' "${{hosts[@]}}")
me=$(printf '"type": "worker", "index": %s' "$SLURM_PROCID")
export TF_CONFIG="{{\\"cluster\\": {{\\"worker\\": [$workers]}}, \\"task\\": {{$me}}}}"
{python} {script} {steps} {report}
EOF
srun bash -c "$task"
"""

SCRIPTS = {"mpi": MPI, "ps": PS, "collective": COLLECTIVE}
BY_HAND = {"mpi": MPI_BY_HAND, "ps": PS_BY_HAND, "collective": COLLECTIVE_BY_HAND}
WORDS = {
    "mpi": ("--nodes", "2"),
    "ps": ("--workers", "2", "--ps", "1", "--nodes", "3", "--ps-placement", "hetjob"),
    "collective": ("--nodes", "2"),
}
WHY = "The rounds of one case differ by more than the two cases do: the ranges are below."
GOALS = tuple(
    Goal(
        f"≥ 0.99 of by hand, {name}",
        ratio(f"`{name}`, hpctf", f"`{name}`, by hand"),
        least=0.99,
        why=WHY,
    )
    for name in SCRIPTS
)


def measure(bench: Bench) -> Iterator[Figure]:
    folder, python = bench.folder, python_of(TRAINING)
    report = folder / "steps.json"
    for backend, text in SCRIPTS.items():
        script = bench.script(f"{backend}.py", COMMON + text)
        batch = folder / f"{backend}.sbatch"
        values = {"folder": folder, "python": python, "script": script}
        batch.write_text(BY_HAND[backend].format(**values, steps=STEPS, report=report))
        words = [sys.executable, "-m", "hpctf", "submit", "--wait", "--site", "slurm"]
        words += ["--backend", backend, *WORDS[backend], "--python", str(python), str(script)]
        words += ["--", str(STEPS), str(report)]
        by_hand = f"`{backend}`, by hand"
        cases = {
            by_hand: partial(speed, bench, ["sbatch", "--wait", str(batch)]),
            f"`{backend}`, hpctf": partial(speed, bench, words),
        }
        yield from bench.in_turn(cases, "steps/s", rounds=7, base=by_hand)


def speed(bench: Bench, command: list[str]) -> float:
    """Run a job to its end and return its steps per second."""
    report = bench.folder / "steps.json"
    report.unlink(missing_ok=True)
    try:
        _, text = printed_by(command, HANGS_S, HPCTF_RUNS_ROOT=str(bench.folder / "runs"))
    except subprocess.TimeoutExpired:
        raise CannotMeasure(f"has not ended after {HANGS_S} s") from None
    finally:
        subprocess.run(["scancel", "--me"], check=True)
        wait_until_empty()
    if not report.exists():
        print(text, file=sys.stderr)
        raise CannotMeasure("it did not come to its last step")
    found: float = json.loads(report.read_text())
    return found
