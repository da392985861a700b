"""Parameter servers: the chief hands out steps, the workers compute them, the ps keep the weights.

The updates are asynchronous: no worker waits for another, and no two runs are quite the same. Run
it on the chief alone, with TensorFlow's standard server on workers and ps, or on every task:
workers and ps then start that server here. Keras 3 knows no parameter servers, so this is
TensorFlow alone.
"""

import os
import sys
from pathlib import Path

import digits
import tensorflow as tf

SAVE_EVERY = 4
"""Epochs from one checkpoint to the next."""


def serve(resolver: tf.distribute.cluster_resolver.ClusterResolver) -> None:
    """Serve as a worker or ps until whoever started the job ends it."""
    # A lost chief must be noticed rather than waited for, says TensorFlow's guide.
    os.environ["GRPC_FAIL_FAST"] = "use_caller"
    server = tf.distribute.Server(
        resolver.cluster_spec(),
        job_name=resolver.task_type,
        task_index=resolver.task_id,
        protocol="grpc",
    )
    server.join()


def per_worker_data(examples: digits.Examples, batch_size: int):
    """Return the function that makes a worker's dataset, on that worker.

    Each has all the images, in an order of its own: steps go to whichever worker is free, so with
    disjoint shares the images of a slow worker would hardly be seen.
    """

    @tf.function
    def dataset():
        worker = tf.distribute.coordinator.experimental_get_current_worker_index()
        data = tf.data.Dataset.from_tensor_slices(examples)
        shuffled = data.shuffle(len(examples[0]), seed=digits.SEED + worker)
        return shuffled.repeat().batch(batch_size)

    return dataset


def make_step(model: digits.Mlp, learning_rate: float):
    """Return the function that takes one training step on whichever worker is free."""

    @tf.function
    def step(data):
        images, labels = next(data)
        with tf.GradientTape() as tape:
            loss = model.loss(images, labels)
        model.descend(tape.gradient(loss, model.trainable_variables), learning_rate)
        return loss

    return step


def train(coordinator, model: digits.Mlp, examples: digits.Examples, args) -> None:
    """Train, saving checkpoints on the way and going on from the last one there is."""
    dataset = coordinator.create_per_worker_dataset(per_worker_data(examples, args.batch_size))
    data = iter(dataset)
    step = make_step(model, args.learning_rate)
    epoch = tf.Variable(0)
    checkpoints = tf.train.CheckpointManager(
        tf.train.Checkpoint(model=model, epoch=epoch), checkpoint_folder(), max_to_keep=2
    )
    checkpoints.restore_or_initialize()
    while (number := int(epoch) + 1) <= args.epochs:
        for _ in range(len(examples[0]) // args.batch_size):
            loss = coordinator.schedule(step, args=(data,))
        coordinator.join()
        epoch.assign(number)
        digits.log_epoch(number, args.epochs, loss=float(loss.fetch()))
        if number % SAVE_EVERY == 0 or number == args.epochs:
            checkpoints.save()


def checkpoint_folder() -> str:
    """Return where checkpoints go. The ps write them, so every node must see the folder."""
    return os.environ.get("HPCTF_CHECKPOINT_DIR") or str(Path("outputs/checkpoints").absolute())


def coordinate(resolver: tf.distribute.cluster_resolver.ClusterResolver) -> None:
    """Train and report: the chief's part."""
    args = digits.arguments(__doc__, epochs=12, learning_rate=0.2)
    cluster = resolver.cluster_spec()
    workers = cluster.num_tasks("worker")
    strategy = tf.distribute.ParameterServerStrategy(resolver)
    coordinator = tf.distribute.coordinator.ClusterCoordinator(strategy)
    train_examples, held_out = digits.load()
    with strategy.scope():
        model = digits.Mlp()
    train(coordinator, model, train_examples, args)
    accuracy = model.correct(*held_out) / len(held_out[0])
    digits.report(accuracy, workers=workers, ps=cluster.num_tasks("ps"), epochs=args.epochs)


def main() -> None:
    """Do what this task is for, as TF_CONFIG says."""
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    if "chief" not in resolver.cluster_spec().jobs:
        sys.exit("TF_CONFIG names no chief: without one, nobody would hand out the steps.")
    if resolver.task_type in ("worker", "ps"):
        serve(resolver)
    else:
        coordinate(resolver)


if __name__ == "__main__":
    main()
