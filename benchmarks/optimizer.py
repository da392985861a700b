"""Steps a second with hpctf.keras under Keras 3, beside Horovod's own module under tf-keras.

    mpirun -n 2 EXE benchmarks/optimizer.py [--rounds N] [--steps N] [--model small|mlp|conv]

EXE is the Python of an environment with TensorFlow, tf-keras and Horovod (`hpctf env build
--backend mpi` makes one). Both train the same network on the same images, in the same processes and
in turn: a round is a `fit` of each. The first ones, which trace, do not count.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from pathlib import Path

os.environ["TF_USE_LEGACY_KERAS"] = "1"  # tf.keras is Horovod's; Keras 3 is the package keras
sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "hpctf/client"))

import horovod.tensorflow.keras as theirs
import keras
import numpy as np
import tensorflow as tf
import tf_keras
from hpctf.keras import beginning, optimizer

theirs.K = theirs.callbacks.K = tf.keras.backend

WARM_UP = 10


def build(library, model: str):
    """Return the network, of one Keras or the other."""
    layers = library.layers
    if model != "conv":
        sizes = {"small": [64], "mlp": [512, 512, 512]}[model]
        hidden = [layers.Dense(size, activation="relu") for size in sizes]
        return library.Sequential([layers.Input([784]), *hidden, layers.Dense(10)])
    convolutions = [layers.Conv2D(n, 3, strides=2, activation="relu") for n in (32, 64)]
    images = [layers.Input([784]), layers.Reshape([28, 28, 1])]
    return library.Sequential([*images, *convolutions, layers.Flatten(), layers.Dense(10)])


def compiled(library, model: str, distributed):
    """Return the network with its distributed optimizer."""
    made = build(library, model)
    loss = library.losses.SparseCategoricalCrossentropy(from_logits=True)
    made.compile(distributed(library.optimizers.Adam(1e-3)), loss, metrics=["accuracy"])
    return made


def clock(library):
    """Return a callback that notes when the steps that count begin and end."""

    class Clock(library.callbacks.Callback):
        def on_train_batch_end(self, batch, logs=None):
            if batch == WARM_UP - 1:
                self.began = time.perf_counter()
            self.ended = time.perf_counter()

    return Clock()


def steps_a_second(library, made, first, data, steps: int) -> float:
    """Return how fast a `fit` goes, once it goes."""
    watch = clock(library)
    made.fit(
        data,
        steps_per_epoch=WARM_UP + steps,
        epochs=1,
        verbose=0,
        shuffle=False,
        callbacks=[first, watch],
    )
    return steps / (watch.ended - watch.began)


def main() -> None:
    """Print the table, on rank 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=11)
    parser.add_argument("--steps", type=int, default=100)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--model", choices=["small", "mlp", "conv"], default="mlp")
    given = parser.parse_args()
    theirs.init()
    random = np.random.default_rng(theirs.rank())
    images = random.random((given.batch_size * 20, 784), "float32")
    labels = random.integers(0, 10, len(images))
    data = tf.data.Dataset.from_tensor_slices((images, labels)).batch(given.batch_size)
    data = data.cache().repeat().prefetch(2)
    cases = {
        "horovod.tensorflow.keras, tf-keras": (
            tf_keras,
            compiled(tf_keras, given.model, theirs.DistributedOptimizer),
            theirs.callbacks.BroadcastGlobalVariablesCallback(0),
        ),
        "hpctf.keras, Keras 3": (
            keras,
            compiled(keras, given.model, optimizer.DistributedOptimizer),
            beginning.BroadcastGlobalVariablesCallback(0),
        ),
    }
    found: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(given.rounds + 1):
        for name, case in cases.items():
            speed = steps_a_second(*case, data, given.steps)
            if turn:
                found[name].append(speed)
    if theirs.rank() == 0:
        report(found, given)


def report(found: dict[str, list[float]], given: argparse.Namespace) -> None:
    """Print medians, and the ratio round by round."""
    versions = f"TensorFlow {tf.__version__}, Keras {keras.__version__}"
    print(f"{given.model}, {theirs.size()} ranks, batches of {given.batch_size}, {versions}")
    for name, speeds in found.items():
        print(f"  {name:36} {statistics.median(speeds):8.1f} steps/s")
    old, new = found.values()
    ratios = sorted(b / a for a, b in zip(old, new, strict=True))
    middle = statistics.median(ratios)
    print(f"  ratio, round by round: {middle:.3f} ({ratios[0]:.3f} to {ratios[-1]:.3f})")


if __name__ == "__main__":
    main()
