"""MultiWorkerMirroredStrategy: all workers hold the same weights and step together.

The loop is TensorFlow's own `strategy.run`: with Keras 3 `model.fit` fails under this strategy.
"""

import sys
import tempfile
from pathlib import Path

import digits
import numpy as np
import tensorflow as tf


def make_step(strategy: tf.distribute.Strategy, model: digits.Mlp, learning_rate: float):
    """Return the function that takes one training step on every replica."""

    def replica_step(images, labels):
        with tf.GradientTape() as tape:
            loss = model.loss(images, labels)
        model.descend(tape.gradient(loss, model.trainable_variables), learning_rate)
        return loss

    @tf.function
    def step(images, labels):
        losses = strategy.run(replica_step, args=(images, labels))
        return strategy.reduce("MEAN", losses, axis=None)

    return step


def train(strategy, model: digits.Mlp, examples: digits.Examples, args) -> None:
    """Train; every replica, here and on the other workers, has its own share of the examples."""
    replicas = strategy.num_replicas_in_sync
    shares = [digits.batches(examples, args.batch_size, i, replicas) for i in range(replicas)]

    def next_batch(context):
        images, labels = next(shares[context.replica_id_in_sync_group])
        return tf.constant(images), tf.constant(labels)

    # A step averages over as many batches as there are replicas, so it may be as much longer.
    step = make_step(strategy, model, args.learning_rate * replicas)
    for epoch in range(args.epochs):
        for _ in range(len(examples[0]) // (args.batch_size * replicas)):
            loss = step(*strategy.experimental_distribute_values_from_function(next_batch))
        if is_chief(strategy):
            digits.log_epoch(epoch + 1, args.epochs, loss=float(loss))


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this worker reports: without a task called chief, worker 0 is it."""
    return strategy.cluster_resolver.task_id in (None, 0)


def check_identical(strategy: tf.distribute.Strategy, model: digits.Mlp) -> None:
    """Fail unless all workers hold the same weights, to the last bit."""
    mine = tf.constant([model.checksum()], tf.int64)

    @tf.function
    def gather():
        return strategy.gather(strategy.run(lambda: tf.identity(mine)), axis=0)

    checksums = gather().numpy()
    if len(np.unique(checksums)) > 1:
        sys.exit(f"The workers have drifted apart: checksums {checksums.tolist()}")


def save(strategy: tf.distribute.Strategy, model: digits.Mlp) -> None:
    """Save the weights. All workers must take part, but only one may write the file that stays."""
    checkpoint = tf.train.Checkpoint(model=model)
    if is_chief(strategy):
        checkpoint.write(str(Path("outputs/weights").absolute()))
        return
    with tempfile.TemporaryDirectory() as folder:
        checkpoint.write(f"{folder}/weights")


def main() -> None:
    """Train, check, save and report."""
    args = digits.arguments(__doc__, epochs=12, learning_rate=0.2)
    # First of all: the strategy must exist before TensorFlow has done anything else.
    strategy = tf.distribute.MultiWorkerMirroredStrategy()
    train_examples, held_out = digits.load()
    with strategy.scope():
        # MEAN: an update made by each replica is averaged over all of them, on every worker,
        # before it is applied. That is the whole exchange of gradients.
        model = digits.Mlp(aggregation=tf.VariableAggregation.MEAN)
    train(strategy, model, train_examples, args)
    check_identical(strategy, model)
    save(strategy, model)
    if is_chief(strategy):
        accuracy = model.correct(*held_out) / len(held_out[0])
        digits.report(accuracy, workers=strategy.num_replicas_in_sync, epochs=args.epochs)


if __name__ == "__main__":
    main()
