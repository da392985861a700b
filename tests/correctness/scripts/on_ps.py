"""ParameterServerStrategy, with tf-keras and with TensorFlow alone; or one process, as many steps.

The other trainings' few steps would tell little: no two runs of asynchronous workers are the same.
What counts is where they lead, so there are more of them, without momentum.
"""

import os

import task
import tensorflow as tf

STEPS, BATCH, RATE = 300, 32, 0.2


def data(_=None):
    """Return images without end: each worker has all of them, in an order of its own."""
    images = tf.data.Dataset.from_tensor_slices((task.PIXELS, task.LABELS))
    return images.shuffle(len(task.PIXELS)).repeat().batch(BATCH)


def workers():
    """Return who hands out steps to workers; None in one process."""
    if os.environ["HPCTF_BACKEND"] != "ps":
        return None
    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    strategy = tf.distribute.ParameterServerStrategy(resolver)
    return tf.distribute.coordinator.ClusterCoordinator(strategy)


def scope(coordinator):
    strategy = coordinator.strategy if coordinator else tf.distribute.get_strategy()
    return strategy.scope()


def fit(keras, coordinator, make_data):
    with scope(coordinator):
        model = task.keras_model(keras)
        model.compile(keras.optimizers.SGD(RATE), task.keras_loss(keras))
    model.fit(make_data(data), epochs=3, steps_per_epoch=STEPS // 3, verbose=0)
    return model


def loop(keras, coordinator):
    """Return the model, and how many steps its optimizer has counted."""
    with scope(coordinator):
        model = task.keras_model(keras)
        optimizer = keras.optimizers.SGD(RATE)
        optimizer.build(model.trainable_variables)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, reduction="none")

    def step(images, labels):
        with tf.GradientTape() as tape:
            value = tf.reduce_mean(loss(labels, model(images, training=True)))
        gradients = tape.gradient(value, model.trainable_variables)
        optimizer.apply_gradients(zip(gradients, model.trainable_variables, strict=True))

    take(step, STEPS, coordinator)
    return model, int(optimizer.iterations.numpy())


def tape(coordinator, steps=STEPS):
    with scope(coordinator):
        network = task.Network(momentum=0.0, rate=RATE)

    def step(images, labels):
        network.descend(network.gradients(images, labels))

    take(step, steps, coordinator)
    return network


def take(step, steps, coordinator):
    """Take steps, on whichever worker is free."""
    strategy = coordinator.strategy if coordinator else tf.distribute.get_strategy()
    one = tf.function(lambda batches: strategy.run(step, args=next(batches)))
    if coordinator is None:
        batches = iter(data())
        for _ in range(steps):
            one(batches)
        return
    batches = iter(coordinator.create_per_worker_dataset(data))
    for _ in range(steps):
        coordinator.schedule(one, args=(batches,))
    coordinator.join()


def main():
    coordinator = workers()
    make_data = tf.keras.utils.experimental.DatasetCreator if coordinator else lambda make: make()
    trained = {"fit": fit(tf.keras, coordinator, make_data), "tape": tape(coordinator)}
    trained["loop"], counted = loop(tf.keras, coordinator)
    if coordinator is None:
        trained["half"] = tape(None, STEPS // 2)
    losses = {name: task.loss_of(model) for name, model in trained.items()}
    losses["start"] = task.loss_of(task.Network())
    task.say("loss", 0, {**losses, "counted": counted, "steps": STEPS})


if __name__ == "__main__":
    main()
