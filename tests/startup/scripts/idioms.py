"""Trains with the idioms of Horovod's published examples for TensorFlow 2, on real digits.

The arguments say which: ``keras``, ``tape``. Each rank leaves its weights in the outputs.
"""

import sys

import horovod.tensorflow as hvd_tape
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

try:
    import horovod.tensorflow.keras as hvd
except ImportError:
    hvd = None


def digits():
    pixels, labels = load_digits(return_X_y=True)
    images = (pixels / 16).reshape(-1, 8, 8, 1).astype("float32")
    dataset = tf.data.Dataset.from_tensor_slices((images, labels.astype("int64")))
    return dataset.repeat().shuffle(2000).batch(64), images, labels


def model_of_digits():
    return tf.keras.Sequential(
        [
            tf.keras.layers.Conv2D(16, [3, 3], activation="relu"),
            tf.keras.layers.MaxPooling2D(pool_size=(2, 2)),
            tf.keras.layers.Dropout(0.25),
            tf.keras.layers.Flatten(),
            tf.keras.layers.Dense(64, activation="relu"),
            tf.keras.layers.Dense(10, activation="softmax"),
        ]
    )


def keep(name, model, images, labels):
    rank, size = (hvd.rank(), hvd.size()) if hvd else (0, 1)
    found = np.argmax(model(images, training=False), axis=1)
    weights = np.concatenate([np.ravel(weight) for weight in model.get_weights()])
    weights.tofile(f"outputs/{name}-{rank}.f32")
    print(f"{name}: rank {rank} of {size} is right in {np.mean(found == labels):.3f}")


def keras():
    hvd.init()
    dataset, images, labels = digits()
    mnist_model = model_of_digits()
    scaled_lr = 0.001 * hvd.size()
    opt = tf.optimizers.Adam(scaled_lr)
    opt = hvd.DistributedOptimizer(
        opt, backward_passes_per_step=1, average_aggregated_gradients=True
    )
    mnist_model.compile(
        loss=tf.losses.SparseCategoricalCrossentropy(),
        optimizer=opt,
        metrics=["accuracy"],
        experimental_run_tf_function=False,
    )
    callbacks = [
        hvd.callbacks.BroadcastGlobalVariablesCallback(0),
        hvd.callbacks.MetricAverageCallback(),
        hvd.callbacks.LearningRateWarmupCallback(initial_lr=scaled_lr, warmup_epochs=1, verbose=1),
    ]
    if hvd.rank() == 0:
        callbacks.append(tf.keras.callbacks.ModelCheckpoint("./checkpoint-{epoch}.h5"))
    verbose = 2 if hvd.rank() == 0 else 0
    mnist_model.fit(
        dataset, steps_per_epoch=60 // hvd.size(), callbacks=callbacks, epochs=2, verbose=verbose
    )
    keep("keras", mnist_model, images, labels)


def tape():
    hvd.init()
    dataset, images, labels = digits()
    mnist_model = model_of_digits()
    loss = tf.losses.SparseCategoricalCrossentropy()
    opt = tf.optimizers.Adam(0.001 * hvd.size())
    checkpoint = tf.train.Checkpoint(model=mnist_model, optimizer=opt)

    @tf.function
    def training_step(images, labels, first_batch):
        with tf.GradientTape() as tape:
            probs = mnist_model(images, training=True)
            loss_value = loss(labels, probs)
        tape = hvd_tape.DistributedGradientTape(tape)
        grads = tape.gradient(loss_value, mnist_model.trainable_variables)
        opt.apply_gradients(zip(grads, mnist_model.trainable_variables, strict=True))
        if first_batch:
            hvd_tape.broadcast_variables(mnist_model.variables, root_rank=0)
            hvd_tape.broadcast_variables(opt.variables(), root_rank=0)
        return loss_value

    for batch, (some, their_labels) in enumerate(dataset.take(60 // hvd.size())):
        training_step(some, their_labels, batch == 0)
    if hvd.rank() == 0:
        checkpoint.save("./checkpoints")
    keep("tape", mnist_model, images, labels)


if __name__ == "__main__":
    for part in sys.argv[1:]:
        globals()[part]()
