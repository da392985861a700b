"""Trains one epoch on numbered examples and writes which rank saw which: for test_training.py.

The record is a variable of the model, so that it is kept where `fit` runs, whatever the backend.
"""

import json
import sys
from pathlib import Path

import tensorflow as tf

import hpctf

EXAMPLES, BATCH = 45, 4


class Recorder(tf.keras.Model):
    """Counts, in a table of ranks and examples, what comes by."""

    def __init__(self, ranks):
        super().__init__()
        self.dense = tf.keras.layers.Dense(1)
        self.dense.build([None, 1])
        self.seen = tf.Variable(
            tf.zeros([ranks, EXAMPLES], tf.int32),
            trainable=False,
            aggregation=tf.VariableAggregation.SUM,
        )

    def call(self, inputs):
        return self.dense(inputs)

    def train_step(self, data):
        ranks, numbers = data
        where = tf.stack([ranks, numbers], axis=1)
        counts = tf.scatter_nd(where, tf.ones_like(numbers, tf.int32), self.seen.shape)
        self.seen.assign_add(counts)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean(self(tf.cast(numbers, tf.float32)[:, None]) ** 2)
        gradients = tape.gradient(loss, self.trainable_variables)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
        return {"loss": loss}


def numbered():
    return tf.data.Dataset.range(EXAMPLES)


def with_its_rank(share):
    """Put the number of the rank that reads it to each example."""
    from hpctf.sharding import place
    from hpctf.task import current_task

    rank = tf.cast(place(current_task()), tf.int64)
    return share.map(lambda number: (rank, number))


def rebatched(strategy):
    """Return what TensorFlow makes here of a share in batches for all of two workers."""
    share = hpctf.shard(tf.data.Dataset.range(16)).batch(2 * BATCH)
    batches = iter(strategy.experimental_distribute_dataset(share))
    local = [strategy.experimental_local_results(next(batches)) for _ in range(2)]
    return [replicas[0].numpy().tolist() for replicas in local]


def main():
    strategy = hpctf.strategy()
    assert hpctf.strategy() is strategy
    with strategy.scope():
        model = Recorder(strategy.size)
        model.compile(strategy.optimizer(tf.keras.optimizers.SGD(1e-4)))
    steps = strategy.steps(EXAMPLES, BATCH)
    data = strategy.data(numbered, BATCH, shuffle=EXAMPLES, seed=20, prepare=with_its_rank)
    model.fit(data, steps_per_epoch=steps, callbacks=strategy.callbacks(), verbose=0)
    seen = tf.convert_to_tensor(model.seen)
    if strategy.backend == "mpi":
        import horovod.tensorflow as hvd

        seen = hvd.allreduce(seen, op=hvd.Sum)
    found = {"seen": seen.numpy().tolist(), "steps": steps, "size": strategy.size}
    if strategy.backend == "collective":
        found["rebatched"] = rebatched(strategy)
    if strategy.is_chief:
        Path("outputs/seen.json").write_text(json.dumps(found))


if __name__ == "__main__":
    sys.exit(main())
