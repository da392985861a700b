"""Horovod under Keras 3: what is right, what Horovod refuses, and what hpctf's refusal spares."""

import os

import horovod.tensorflow
import hpctf.keras as hvd
import keras
import task
import tensorflow as tf

hvd.init()
RANK, SIZE = hvd.rank(), hvd.size()
OWN = task.SEED + RANK
"""Each rank begins with weights of its own: it is the broadcast that makes them the same."""


def fit(**options):
    model = task.keras_model(keras, OWN)
    optimizer = hvd.DistributedOptimizer(task.keras_optimizer(keras, **options))
    model.compile(optimizer, task.keras_loss(keras), jit_compile=False)
    first = hvd.callbacks.BroadcastGlobalVariablesCallback(0)
    model.fit(task.dataset(RANK, SIZE), shuffle=False, verbose=0, callbacks=[first])
    return model.get_weights()


def loop():
    """Train a model of Keras 3 with Horovod's tape, which takes TensorFlow's own variables."""
    model, loss = task.keras_model(keras, OWN), task.keras_loss(keras)
    optimizer = task.keras_optimizer(keras)
    optimizer.build(model.trainable_variables)
    horovod.tensorflow.broadcast_variables([v.value for v in model.variables], root_rank=0)

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            value = loss(labels, model(images, training=True))
        tape = horovod.tensorflow.DistributedGradientTape(tape)
        gradients = tape.gradient(value, [v.value for v in model.trainable_variables])
        optimizer.apply(gradients, model.trainable_variables)

    for batch in task.batches(RANK, SIZE):
        step(*batch)
    return model.get_weights()


def tape(exchanging=horovod.tensorflow.DistributedGradientTape):
    network = task.Network(OWN)
    horovod.tensorflow.broadcast_variables(network.weights, root_rank=0)

    @tf.function
    def step(images, labels):
        network.descend(network.gradients(images, labels, exchanging))

    for batch in task.batches(RANK, SIZE):
        step(*batch)
    return network.weights


def horovods_tape_for_variables_of_keras():
    model = task.keras_model(keras)
    with tf.GradientTape() as recorded:
        loss = tf.reduce_mean(model(task.PIXELS))
    horovod.tensorflow.DistributedGradientTape(recorded).gradient(loss, model.trainable_variables)


def refusals():
    weights = task.keras_model(keras).weights
    return {
        "DistributedGradientTape": horovods_tape_for_variables_of_keras,
        "broadcast_variables": lambda: horovod.tensorflow.broadcast_variables(weights, 0),
    }


def fit_with_horovods_optimizer():
    """Train as who insists on Horovod's own module: it says nothing, and averages nothing."""
    os.environ["HPCTF_ALLOW_HOROVOD_KERAS"] = "1"
    model = task.keras_model(keras)  # all ranks begin with the same weights
    optimizer = horovod.tensorflow.DistributedOptimizer(task.keras_optimizer(keras))
    model.compile(optimizer, task.keras_loss(keras), jit_compile=False)
    model.fit(task.dataset(RANK, SIZE), shuffle=False, verbose=0)
    return model.get_weights()


if __name__ == "__main__":
    task.keep("fit", RANK, fit())
    task.keep("fit-clipped", RANK, fit(**task.CLIP))
    task.keep("loop", RANK, loop())
    task.keep("tape", RANK, tape())
    task.keep("no-exchange", RANK, tape(lambda own: own))
    task.say("refused", RANK, {name: task.words_of(one) for name, one in refusals().items()})
    task.keep("horovods-optimizer", RANK, fit_with_horovods_optimizer())
