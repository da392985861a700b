"""The Python API with a function in place of a script: two networks read better than one.

Each worker trains a network of its own, from other weights and on other images, and returns what
it makes of the held-out images. The values come back here, where the networks' scores are added.

    HPCTF_EXAMPLE_PYTHON=/path/to/tensorflow/python python examples/function.py
"""

import os
import sys
from pathlib import Path

from hpctf import Experiment, MultiWorker, TensorFlow

WORKERS = 2


def train(epochs: int) -> dict:
    """Train one network on a compute node. Imports belong inside: only there is TensorFlow."""
    import digits
    import tensorflow as tf

    worker = int(os.environ["HPCTF_INDEX"])
    (images, labels), (held_images, held_labels) = digits.load()
    model = digits.Mlp(seed=worker)

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = model.loss(images, labels)
        model.descend(tape.gradient(loss, model.trainable_variables), 0.2)

    data = digits.batches((images, labels), 16, worker, WORKERS)
    for _ in range(epochs * len(images) // (16 * WORKERS)):
        step(*next(data))
    scores = model(held_images).numpy()
    return {"scores": scores.tolist(), "truth": held_labels.tolist()}


def accuracy(scores: list[list[float]], truth: list[int]) -> float:
    """Return the share of images whose highest score is the true digit's."""
    read = [row.index(max(row)) for row in scores]
    return sum(r == t for r, t in zip(read, truth, strict=True)) / len(truth)


def main() -> None:
    """Submit, wait, and put together what the workers return."""
    estimator = TensorFlow(
        Path(__file__).parent / "digits",
        function=train,
        arguments={"epochs": 12},
        distributed_training=MultiWorker(worker_count=WORKERS),
        python=os.environ.get("HPCTF_EXAMPLE_PYTHON", sys.executable),
    )
    run = Experiment("function").submit(estimator)
    print(f"run: {run.id}")
    print(f"first worker alone: accuracy {accuracy(**run.result()):.4f}")
    results = run.results()
    together = [
        [sum(scores) for scores in zip(*rows, strict=True)]
        for rows in zip(*(result["scores"] for result in results), strict=True)
    ]
    agreed = accuracy(together, results[0]["truth"])
    print(f"{len(results)} workers together: accuracy {agreed:.4f}")


if __name__ == "__main__":
    main()
