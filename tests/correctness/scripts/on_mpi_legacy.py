"""Horovod under tf-keras: its own Keras module, and its tape."""

import horovod.tensorflow.keras as hvd
import task
import tensorflow as tf
from horovod.tensorflow import DistributedGradientTape, broadcast_variables

hvd.init()
RANK, SIZE = hvd.rank(), hvd.size()
OWN = task.SEED + RANK


def fit(broadcast=True, **options):
    model = task.keras_model(tf.keras, OWN)
    if broadcast:
        # The callback does so after the first step, which is then of weights that are apart.
        broadcast_variables(model.variables, root_rank=0)
    optimizer = hvd.DistributedOptimizer(task.keras_optimizer(tf.keras, **options))
    model.compile(optimizer, task.keras_loss(tf.keras))
    first = hvd.callbacks.BroadcastGlobalVariablesCallback(0)
    model.fit(task.dataset(RANK, SIZE), shuffle=False, verbose=0, callbacks=[first])
    return model.get_weights()


def loop():
    model, loss = task.keras_model(tf.keras, OWN), task.keras_loss(tf.keras)
    optimizer = task.keras_optimizer(tf.keras)
    broadcast_variables(model.variables, root_rank=0)

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            value = loss(labels, model(images, training=True))
        gradients = DistributedGradientTape(tape).gradient(value, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    for batch in task.batches(RANK, SIZE):
        step(*batch)
    return model.get_weights()


if __name__ == "__main__":
    task.keep("fit", RANK, fit())
    task.keep("fit-clipped", RANK, fit(**task.CLIP))
    task.keep("loop", RANK, loop())
    task.keep("begun-apart", RANK, fit(broadcast=False))
