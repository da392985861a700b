"""Horovod: every rank trains on its share of the data, and they average their gradients.

The loop is a plain GradientTape. Under Keras 3 (TensorFlow 2.16 and later) Horovod's own
`DistributedOptimizer` averages nothing with `fit`, and the ranks drift apart: for Keras there is
`import hpctf.keras as hvd` (docs/horovod.md). In a loop such as this one Horovod averages
tf.Variables; of a Keras 3 model pass `[v.value for v in model.variables]`.
"""

import sys

import digits
import horovod.tensorflow as hvd
import numpy as np
import tensorflow as tf


def choose_gpu() -> None:
    """Give this rank one GPU, if there are any.

    A rank may see all GPUs of its node, or its own alone if the launcher has pinned it: then the
    local rank can be larger than the number of GPUs in sight.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:
        mine = gpus[hvd.local_rank() % len(gpus)]
        tf.config.set_visible_devices(mine, "GPU")
        tf.config.experimental.set_memory_growth(mine, True)


def make_step(model: digits.Mlp):
    """Return the function that takes one training step."""

    @tf.function
    def step(images, labels, learning_rate):
        with tf.GradientTape() as tape:
            loss = model.loss(images, labels)
        tape = hvd.DistributedGradientTape(tape)
        model.descend(tape.gradient(loss, model.trainable_variables), learning_rate)
        return loss

    return step


def train(model: digits.Mlp, examples: digits.Examples, args) -> None:
    """Train on this rank's share of the examples."""
    data = digits.batches(examples, args.batch_size, hvd.rank(), hvd.size())
    # All ranks must take the same number of steps: each step waits for every rank.
    steps = len(examples[0]) // (args.batch_size * hvd.size())
    # A step averages over hvd.size() times as many images, so it may be as much longer.
    learning_rate = tf.constant(args.learning_rate * hvd.size())
    step = make_step(model)
    for epoch in range(args.epochs):
        for _ in range(steps):
            loss = step(*next(data), learning_rate)
        if hvd.rank() == 0:
            digits.log_epoch(epoch + 1, args.epochs, loss=float(loss))


def accuracy_of(model: digits.Mlp, examples: digits.Examples) -> float:
    """Return the accuracy; every rank looks at its share of the examples."""
    share = [part[hvd.rank() :: hvd.size()] for part in examples]
    correct = hvd.allreduce(tf.constant(model.correct(*share), tf.int64), op=hvd.Sum)
    return int(correct) / len(examples[0])


def check_identical(model: digits.Mlp) -> None:
    """Fail unless all ranks hold the same weights, to the last bit."""
    checksums = hvd.allgather(tf.constant([model.checksum()], tf.int64)).numpy()
    if len(np.unique(checksums)) > 1:
        sys.exit(f"The ranks have drifted apart: checksums {checksums.tolist()}")


def main() -> None:
    """Train, check, report."""
    args = digits.arguments(__doc__, epochs=12, learning_rate=0.2)
    hvd.init()
    choose_gpu()
    train_examples, held_out = digits.load()
    # Each rank begins with weights of its own, so only the broadcast makes them the same.
    model = digits.Mlp(seed=digits.SEED + hvd.rank())
    hvd.broadcast_variables(model.variables, root_rank=0)
    train(model, train_examples, args)
    check_identical(model)
    accuracy = accuracy_of(model, held_out)
    if hvd.rank() == 0:
        digits.report(accuracy, ranks=hvd.size(), epochs=args.epochs)
        np.savez("outputs/weights.npz", *[variable.numpy() for variable in model.variables])


if __name__ == "__main__":
    main()
