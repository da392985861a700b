"""The one training that every combination does: same images, same start, same steps.

A step's batch is WHOLE images, and of N workers each has every N-th of them, so that N workers see
in a step what one process alone sees. Each rank writes down what it has in the end.
"""

import json
from pathlib import Path

import numpy as np
import tensorflow as tf

STEPS, WHOLE = 12, 64
RATE, MOMENTUM = 0.1, 0.9
DIGITS = np.loadtxt(
    Path(np.__file__).parents[1] / "sklearn/datasets/data/digits.csv.gz", delimiter=","
)
"""scikit-learn's handwritten digits, without scikit-learn, which is left out here."""
PIXELS, LABELS = (DIGITS[:, :-1] / 16).astype("float32"), DIGITS[:, -1].astype("int32")
SEED = 7
CLIP = {"global_clipnorm": 0.3}
"""An optimizer that clips does what it does in one process only if the exchange comes first."""


def start(seed=SEED):
    """Return the weights of a network with one hidden layer, as they are drawn from a seed."""
    draw = np.random.default_rng(seed)
    hidden, output = draw.normal(0, 0.2, [64, 32]), draw.normal(0, 0.2, [32, 10])
    return [w.astype("float32") for w in (hidden, np.zeros(32), output, np.zeros(10))]


def share(index=0, size=1):
    """Return the images and labels of a worker, in order, and how many of them are a batch."""
    mine = np.arange(STEPS * WHOLE)[index::size]
    return PIXELS[mine], LABELS[mine], WHOLE // size


def batches(index=0, size=1):
    """Yield the batches of a worker."""
    images, labels, count = share(index, size)
    for first in range(0, len(images), count):
        chosen = slice(first, first + count)
        yield tf.constant(images[chosen]), tf.constant(labels[chosen])


def dataset(index=0, size=1):
    """Return the batches of a worker as a dataset."""
    images, labels, count = share(index, size)
    return tf.data.Dataset.from_tensor_slices((images, labels)).batch(count)


def keras_model(keras, seed=SEED):
    """Return the network in the Keras that is passed; compile it yourself."""
    kernel, bias, kernel2, bias2 = (keras.initializers.Constant(w) for w in start(seed))
    layers = [
        keras.Input([64]),
        keras.layers.Dense(32, "tanh", kernel_initializer=kernel, bias_initializer=bias),
        keras.layers.Dense(10, kernel_initializer=kernel2, bias_initializer=bias2),
    ]
    return keras.Sequential(layers)


def keras_optimizer(keras, **options):
    return keras.optimizers.SGD(RATE, momentum=MOMENTUM, **options)


def keras_loss(keras):
    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


class Network(tf.Module):
    """The network in TensorFlow alone, with gradient descent as Keras computes it."""

    def __init__(self, seed=SEED, momentum=MOMENTUM, rate=RATE, **options):
        super().__init__()
        self.rate, self.momentum = rate, momentum
        self.weights = [tf.Variable(w, **options) for w in start(seed)]
        self.velocities = [
            tf.Variable(tf.zeros_like(w), trainable=False, **options) for w in start(seed)
        ]

    def __call__(self, images):
        hidden, bias, output, bias2 = self.weights
        return tf.tanh(images @ hidden + bias) @ output + bias2

    def gradients(self, images, labels, exchanging=lambda tape: tape):
        """Return the gradients of a batch's mean loss; `exchanging` makes the tape another one."""
        with tf.GradientTape() as recorded:
            loss = mean_loss(self(images), labels)
        return exchanging(recorded).gradient(loss, self.weights)

    def descend(self, gradients):
        for weight, velocity, gradient in zip(
            self.weights, self.velocities, gradients, strict=True
        ):
            velocity.assign(self.momentum * velocity - self.rate * gradient)
            weight.assign_add(velocity)


def mean_loss(logits, labels):
    losses = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    return tf.reduce_mean(losses)


def loss_of(predict):
    """Return the mean loss over all images, of those too that were not trained with."""
    return float(mean_loss(predict(PIXELS), LABELS))


def keep(name, index, weights):
    """Write down the weights that a rank has after a training: float32, one after the other."""
    arrays = [np.asarray(weight, "float32") for weight in weights]
    Path(f"outputs/{name}-{index}.f32").write_bytes(b"".join(a.tobytes() for a in arrays))


def say(name, index, content):
    """Write down what a rank has to say of something."""
    Path(f"outputs/{name}-{index}.json").write_text(json.dumps(content))


def words_of(refused):
    """Return the words with which something is refused; fail if it is not."""
    try:
        refused()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    raise AssertionError("it was not refused")
