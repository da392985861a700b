"""Steps a second under hpctf, beside the same script in a batch script written by hand.

    python benchmarks/steps.py FOLDER --python EXE [--rounds N] [--steps N]

FOLDER lies on the file system that the nodes share; EXE is the Python of an environment with
TensorFlow and Horovod. Needs a Slurm with three free nodes (`tests/cluster/up` makes one). On `mpi`
two ranks train with Horovod, on `ps` a chief, two workers and a parameter server, in jobs that take
turns. The script times its own steps, after those that trace and warm up; the start is not in it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

COMMON = """
import json, os, sys, time
import numpy as np
import tensorflow as tf

steps, report = int(sys.argv[1]), sys.argv[2]
random = np.random.default_rng(0)
images = tf.constant(random.random((64, 784), "float32"))
labels = tf.constant(random.integers(0, 10, 64))
sizes = [784, 512, 512, 10]


def variables():
    return [
        tf.Variable(tf.random.stateless_normal(shape, seed=[1, n]) * 0.05)
        for n, shape in enumerate(zip(sizes, sizes[1:]))
    ]


def loss_of(layers):
    hidden = images
    for layer in layers[:-1]:
        hidden = tf.nn.relu(hidden @ layer)
    logits = hidden @ layers[-1]
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels, logits))
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


for _ in range(20):
    step()
began = time.perf_counter()
for _ in range(steps):
    step()
taken = time.perf_counter() - began
if hvd.rank() == 0:
    open(report, "w").write(json.dumps(steps / taken))
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


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a folder that the nodes share")
    parser.add_argument("--python", required=True, help="the training's Python")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--backend", choices=["mpi", "ps"], action="append")
    given = parser.parse_args()
    bench = Bench(given.folder.absolute(), given.python, given.steps)
    for backend in given.backend or ["mpi", "ps"]:
        table(backend, bench.cases(backend), given.rounds)


class Bench:
    """The scripts of both ways, and how they are run."""

    def __init__(self, folder: Path, python: str, steps: int) -> None:
        (folder / "proj").mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._python = python
        self._steps = str(steps)
        self._report = folder / "steps.json"

    def cases(self, backend: str) -> dict[str, Callable[[], float]]:
        """Return what is measured of a backend, by name."""
        script = self._folder / f"proj/{backend}.py"
        script.write_text(COMMON + {"mpi": MPI, "ps": PS}[backend])
        batch = self._folder / f"{backend}.sbatch"
        text = {"mpi": MPI_BY_HAND, "ps": PS_BY_HAND}[backend]
        values = {"folder": self._folder, "python": self._python, "script": script}
        batch.write_text(text.format(**values, steps=self._steps, report=self._report))
        return {
            "by hand": lambda: self._measured("sbatch", str(batch)),
            "hpctf": lambda: self._measured(*self._hpctf(backend), str(script), *self._words()),
        }

    def _hpctf(self, backend: str) -> list[str]:
        words = [sys.executable, "-m", "hpctf", "submit", "--wait", "--backend", backend]
        counts = {
            "mpi": ["--nodes", "2"],
            "ps": ["--workers", "2", "--ps", "1", "--nodes", "3", "--ps-placement", "hetjob"],
        }
        return [*words, "--python", self._python, *counts[backend]]

    def _words(self) -> list[str]:
        return ["--", self._steps, str(self._report)]

    def _measured(self, *command: str) -> float:
        """Run a job to its end and return its steps a second."""
        self._report.unlink(missing_ok=True)
        done = subprocess.run(command, capture_output=True, text=True)
        while subprocess.check_output(["squeue", "--me", "--noheader"]):
            time.sleep(0.5)
        if not self._report.exists():
            sys.exit(f"{' '.join(command)}:\n{done.stdout}{done.stderr}")
        speed: float = json.loads(self._report.read_text())
        return speed


def table(title: str, cases: dict[str, Callable[[], float]], rounds: int) -> None:
    """Run the cases in turn, and print medians and the ratio round by round."""
    found: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds):
        for name in sorted(cases, reverse=bool(turn % 2)):  # neither always comes first
            found[name].append(cases[name]())
    print(f"\n{title} (steps a second, {rounds} rounds)")
    for name, speeds in found.items():
        low, high = min(speeds), max(speeds)
        print(f"  {name:10} median {statistics.median(speeds):8.1f}  ({low:.1f} to {high:.1f})")
    by_hand, under_hpctf = found.values()
    ratios = sorted(b / a for a, b in zip(by_hand, under_hpctf, strict=True))
    print(
        f"  ratio {statistics.median(ratios):.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})", flush=True
    )


if __name__ == "__main__":
    main()
