"""One process: the Keras that the run has, and TensorFlow alone.

With tf-keras it also takes the steps that are taken with parameter servers elsewhere.
"""

import os

import on_ps
import task
import tensorflow as tf


def fit(**options):
    model = task.keras_model(tf.keras)
    model.compile(task.keras_optimizer(tf.keras, **options), task.keras_loss(tf.keras))
    model.fit(task.dataset(), shuffle=False, verbose=0)
    return model.get_weights()


def tape():
    network = task.Network()

    @tf.function
    def step(images, labels):
        network.descend(network.gradients(images, labels))

    for batch in task.batches():
        step(*batch)
    return network.weights


if __name__ == "__main__":
    task.keep("start", 0, task.start())
    task.keep("fit", 0, fit())
    task.keep("fit-clipped", 0, fit(**task.CLIP))
    task.keep("tape", 0, tape())
    if os.environ.get("TF_USE_LEGACY_KERAS") == "1":
        on_ps.main()
