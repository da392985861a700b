"""Layers and a model of a training's own, whose code its models need when they are loaded."""

import keras
import tensorflow as tf


class Scaled(keras.layers.Layer):
    """Multiplies by a number that it keeps."""

    def __init__(self, by=1.0, **more):
        super().__init__(**more)
        self.by = by

    def call(self, x):
        return x * self.by

    def get_config(self):
        return {**super().get_config(), "by": self.by}


@keras.saving.register_keras_serializable("own", "Incomplete")
class Beta(keras.layers.Layer):
    """Has an operation that ONNX has not."""

    def call(self, x):
        half = tf.fill(tf.shape(x), 0.5)
        return tf.math.betainc(half, half, tf.sigmoid(x))


class Noise(keras.layers.Layer):
    """Answers otherwise each time."""

    def call(self, x):
        return x + tf.random.normal(tf.shape(x))


class Gelu(keras.Model):
    """A model that is no graph of layers."""

    def __init__(self, **more):
        super().__init__(**more)
        self.first = keras.layers.Dense(8, activation="gelu")
        self.last = keras.layers.Dense(2)

    def call(self, x):
        return self.last(self.first(x))
