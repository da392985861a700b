"""A first project: a script that trains, a job file, and what a submission leaves out."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from hpctf.common.files import cannot_write, write_atomic
from hpctf.errors import UsageError

_BEGINNING = '''\
"""Train a small Keras model. Replace data() and build() with your own."""

import argparse
from pathlib import Path

import numpy as np
import tensorflow as tf

import hpctf


def data(examples=4096, features=16):
    """Return made-up examples of two classes: is a weighted sum of the features positive?"""
    random = np.random.default_rng(0)
    inputs = random.normal(size=(examples, features)).astype("float32")
    weights = random.normal(size=features)
    return inputs, (inputs @ weights > 0).astype("int32")


def build():
    return tf.keras.Sequential(
        [
            tf.keras.Input([16]),
            tf.keras.layers.Dense(32, activation="relu"),
            tf.keras.layers.Dense(2, activation="softmax"),
        ]
    )


def arguments():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--batch-size", type=int, default=64, help="examples per step and rank")
    parser.add_argument("--learning-rate", type=float, default=0.003)
    return parser.parse_args()
'''

_SINGLE = """

def main():
    args = arguments()
    model = build()
    model.compile(
        tf.keras.optimizers.Adam(args.learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    model.fit(
        *data(),
        validation_split=0.2,
        epochs=args.epochs,
        batch_size=args.batch_size,
        callbacks=[hpctf.keras.TrackingCallback(batch_size=args.batch_size)],
        verbose=2,  # one line per epoch: a progress bar would fill the log
    )
    # What lies in outputs/ is kept with the run: hpctf download @last
    Path("outputs").mkdir(exist_ok=True)
    model.save("outputs/model.keras")
"""

_DISTRIBUTED = """

def main():
    args = arguments()
    # The strategy of the run's backend: this script trains with each of them, and alone.
    strategy = hpctf.strategy()
    examples = data()
    count = len(examples[0])
    with strategy.scope():
        tf.keras.utils.set_random_seed(1)  # all ranks begin with the same weights
        model = build()
        model.compile(
            strategy.optimizer(tf.keras.optimizers.Adam(args.learning_rate)),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    model.fit(
        # Each rank gets its own share of the examples.
        strategy.data(
            lambda: tf.data.Dataset.from_tensor_slices(examples),
            args.batch_size,
            shuffle=count,
            seed=1,
        ),
        steps_per_epoch=strategy.steps(count, args.batch_size),
        epochs=args.epochs,
        callbacks=[*strategy.callbacks(), hpctf.keras.TrackingCallback()],
        shuffle=False,  # strategy.data() has shuffled them
        verbose=2 if strategy.is_chief else 0,  # one line per epoch, from one rank
    )
    # What lies in outputs/ is kept with the run: hpctf download @last
    Path("outputs").mkdir(exist_ok=True)
    strategy.save(model, "outputs/model.keras")
"""

_END = """

if __name__ == "__main__":
    main()
"""

_OF_BACKENDS = {
    "single": "",
    "mpi": "backend: mpi\nnodes: 1\nprocs-per-node: 2     # ranks per node\n",
    "ps": "backend: ps\nworkers: 2\nps: 1\n",
    "collective": "backend: collective\nworkers: 2\n",
}

_JOB = """\
# Submit it: hpctf submit job.yaml --wait
# Each key is an option of hpctf submit (hpctf submit --help).
script: train.py
experiment: {experiment}
{backend}time: 30               # minutes
args: [--epochs, 5]
# pip: [scikit-learn]  # packages besides TensorFlow: hpctf builds an environment with them
# use-gpu: true
"""

_IGNORE = """\
# What a submission does not copy, in the form of a .gitignore.
.git/
.venv/
__pycache__/
outputs/
data/
"""


def files_of(backend: str, experiment: str) -> Mapping[str, str]:
    """Return the files of a first project, by name."""
    own = _SINGLE if backend == "single" else _DISTRIBUTED
    return {
        "train.py": _BEGINNING + own + _END,
        "job.yaml": _JOB.format(experiment=experiment, backend=_OF_BACKENDS[backend]),
        ".amlignore": _IGNORE,
    }


def make_project(folder: Path, backend: str, experiment: str) -> list[Path]:
    """Write a first project into `folder`, which is made if need be, and return its files.

    Raises
    ------
    UsageError
        One of its files is there: nothing is written.
    RunFolderError
        The folder cannot be written.
    """
    files = {folder / name: text for name, text in files_of(backend, experiment).items()}
    there = [path for path in files if os.path.lexists(path)]
    if there:
        raise UsageError(
            f"{str(there[0])!r} already exists: hpctf init does not replace files.",
            "Name another folder: hpctf init FOLDER",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path, text in files.items():
            write_atomic(path, text)
    except OSError as error:
        raise cannot_write(error.filename or folder, error) from None
    return list(files)
