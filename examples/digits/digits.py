"""What the example scripts share: the data, a small network, and what is reported of it.

The data are real and need no download: scikit-learn's 1,797 handwritten digits of 8×8 pixels.
"""

from __future__ import annotations

import argparse
import json
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from hpctf import Run

SEED = 20
PIXELS, CLASSES = 64, 10

Examples = tuple[np.ndarray, np.ndarray]
"""Images (n × 64, float32, 0 to 1) and their labels (n, int32)."""


def arguments(description: str, *, epochs: int, learning_rate: float) -> argparse.Namespace:
    """Read the command line, with a script's own defaults."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--epochs", type=int, default=epochs)
    parser.add_argument("--batch-size", type=int, default=16, help="images a step and worker")
    parser.add_argument("--learning-rate", type=float, default=learning_rate)
    return parser.parse_args()


def load() -> tuple[Examples, Examples]:
    """Return (train, held out): the same 80 % and 20 % in every process."""
    images, labels = load_digits(return_X_y=True)
    images, labels = (images / 16).astype(np.float32), labels.astype(np.int32)
    train_images, held_images, train_labels, held_labels = train_test_split(
        images, labels, test_size=0.2, random_state=SEED, stratify=labels
    )
    return (train_images, train_labels), (held_images, held_labels)


def batches(
    examples: Examples, batch_size: int, worker: int = 0, workers: int = 1
) -> Iterator[Examples]:
    """Yield batches of one worker's share without end, shuffled anew in every pass.

    The shares are disjoint: of 2 workers, the first takes the even images, the second the odd.
    """
    images, labels = (part[worker::workers] for part in examples)
    shuffled = np.random.default_rng([SEED, worker])
    while True:
        order = shuffled.permutation(len(images))
        for start in range(0, len(images) - batch_size + 1, batch_size):
            chosen = order[start : start + batch_size]
            yield images[chosen], labels[chosen]


class Mlp(tf.Module):
    """A network with one hidden layer, in TensorFlow alone.

    Keras 3 knows no parameter servers, and Horovod and MultiWorkerMirroredStrategy do not work
    with its `fit`. Plain variables work with all of them, on every TensorFlow 2.
    """

    def __init__(self, hidden: int = 64, seed: int = SEED, **variable_options) -> None:
        super().__init__()

        def weights(rows: int, columns: int, layer: int) -> tf.Variable:
            values = tf.random.stateless_normal([rows, columns], seed=[seed, layer])
            return tf.Variable(values * (2 / rows) ** 0.5, **variable_options)

        self.hidden = weights(PIXELS, hidden, 1)
        self.hidden_bias = tf.Variable(tf.zeros([hidden]), **variable_options)
        self.output = weights(hidden, CLASSES, 2)
        self.output_bias = tf.Variable(tf.zeros([CLASSES]), **variable_options)

    def __call__(self, images):
        """Return the logits, n × 10."""
        hidden = tf.nn.relu(images @ self.hidden + self.hidden_bias)
        return hidden @ self.output + self.output_bias

    def loss(self, images, labels):
        """Return the mean cross entropy."""
        losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels, self(images))
        return tf.reduce_mean(losses)

    def correct(self, images, labels) -> int:
        """Return how many images the network reads correctly."""
        return int(np.sum(np.argmax(self(images), axis=1) == labels))

    def descend(self, gradients, learning_rate) -> None:
        """Take one step of gradient descent; `gradients` are those of `trainable_variables`."""
        for variable, gradient in zip(self.trainable_variables, gradients, strict=True):
            variable.assign_sub(learning_rate * gradient)

    def checksum(self) -> int:
        """Return a number that differs as soon as one bit of one weight does."""
        return zlib.crc32(b"".join(variable.numpy().tobytes() for variable in self.variables))


def log_epoch(epoch: int, epochs: int, **metrics: float) -> None:
    """Print an epoch's metrics and log them to the run. One process calls it."""
    words = ", ".join(f"{name} {value:.4f}" for name, value in metrics.items())
    print(f"epoch {epoch}: {words}", flush=True)
    run = Run.get_context()
    for name, value in metrics.items():
        run.log(name, value, epoch)
    run.progress(epoch=epoch, epochs=epochs)


def report(accuracy: float, **more: object) -> None:
    """Print and log the held-out accuracy, and write ``outputs/metrics.json``. One process calls
    it."""
    print(f"accuracy: {accuracy:.4f}", flush=True)
    Run.get_context().log("held_out_accuracy", accuracy)
    outputs = Path("outputs")
    outputs.mkdir(exist_ok=True)
    metrics = {"accuracy": round(accuracy, 4), **more}
    (outputs / "metrics.json").write_text(json.dumps(metrics, indent=2) + "\n")
