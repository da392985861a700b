"""Makes a model of each kind with the Keras and TensorFlow that are here, and saves it: a script.

Its arguments are a folder and the kinds; `KERAS` are saved as ``.keras``, `OLD` by tf-keras, or by
the Keras 2 of an older TensorFlow. Weights are drawn: nothing is trained, and nothing is zero.
"""

from __future__ import annotations

import os
import runpy
import sys
from pathlib import Path

os.environ["KERAS_BACKEND"] = "tensorflow"

import numpy as np
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parent))


def cnn(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((12, 12, 3), name="image"),
            layers.Conv2D(4, 3, activation="relu"),
            layers.BatchNormalization(),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dense(10, activation="softmax"),
        ]
    )


def lstm(keras):
    inputs = keras.Input((None, 5))
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.LSTM(6)(inputs)))


def gru(keras):
    inputs = keras.Input((6, 5))
    hidden = keras.layers.GRU(6, return_sequences=True)(inputs)
    return keras.Model(inputs, keras.layers.Dense(3)(keras.layers.GRU(4)(hidden)))


def masked(keras):
    layers = keras.layers
    inputs = keras.Input((8, 5))
    hidden = layers.Bidirectional(layers.LSTM(6))(layers.Masking(0.0)(inputs))
    return keras.Model(inputs, layers.Dense(3)(hidden))


def custom(keras):
    from own_layers import Scaled

    inputs = keras.Input((4,))
    return keras.Model(inputs, Scaled(2.5)(keras.layers.Dense(3)(inputs)))


def subclassed(keras):
    from own_layers import Gelu

    model = Gelu()
    model(np.zeros((2, 6), "float32"))
    return model


def two(keras):
    layers = keras.layers
    one, other = keras.Input((4,), name="one"), keras.Input((3,), name="other")
    hidden = layers.Concatenate()([layers.Dense(5)(one), layers.Dense(5)(other)])
    outputs = [layers.Dense(2, name="scores")(hidden), layers.Dense(1, name="value")(hidden)]
    return keras.Model([one, other], outputs)


def attention(keras):
    layers = keras.layers
    inputs = keras.Input((6,), dtype="int32")
    hidden = layers.Embedding(20, 8)(inputs)
    hidden = layers.Add()([hidden, layers.MultiHeadAttention(2, 4)(hidden, hidden)])
    hidden = layers.LayerNormalization()(hidden)
    return keras.Model(inputs, layers.Dense(2)(layers.GlobalAveragePooling1D()(hidden)))


def sequential(keras):
    layers = keras.layers
    return keras.Sequential(
        [
            keras.Input((7,)),
            layers.Dense(8, activation="gelu"),
            layers.Dropout(0.5),
            layers.Dense(2),
        ]
    )


def normalization(keras):
    layer = keras.layers.Normalization()
    layer.adapt(np.random.RandomState(0).randn(50, 4).astype("float32") * 3 + 1)
    inputs = keras.Input((4,))
    return keras.Model(inputs, keras.layers.Dense(2)(layer(inputs)))


def strings(keras):
    layers = keras.layers
    inputs = keras.Input((1,), dtype="string", name="word")
    hidden = layers.StringLookup(vocabulary=["red", "green", "blue"])(inputs)
    hidden = layers.Flatten()(layers.Embedding(4, 3)(hidden))
    return keras.Model(inputs, layers.Dense(2)(hidden))


def mixed(keras):
    layers = keras.layers
    inputs = keras.Input((6,))
    hidden = layers.Dense(8, activation="relu", dtype="mixed_float16")(inputs)
    return keras.Model(inputs, layers.Dense(2, dtype="float32")(hidden))


def large(keras):
    inputs = keras.Input((64,))
    hidden = keras.layers.Dense(256, activation="relu")(inputs)
    return keras.Model(inputs, keras.layers.Dense(8)(hidden))


def unsupported(keras):
    from own_layers import Beta

    inputs = keras.Input((8,))
    return keras.Model(inputs, Beta(name="beta")(inputs))


def noise(keras):
    from own_layers import Noise

    inputs = keras.Input((8,))
    return keras.Model(inputs, Noise()(inputs))


def lambda_(keras):
    inputs = keras.Input((8,))
    return keras.Model(inputs, keras.layers.Lambda(lambda x: x * 2)(inputs))


KINDS = {
    one.__name__: one
    for one in (
        *(cnn, lstm, gru, masked, custom, subclassed, two, attention, sequential),
        *(normalization, strings, mixed, large, unsupported, noise, lambda_),
    )
}


class Weighted(tf.Module):
    """A model of TensorFlow alone."""

    def __init__(self) -> None:
        super().__init__()
        self.weights = tf.Variable(np.random.RandomState(1).randn(5, 2).astype("float32"))

    @tf.function(input_signature=[tf.TensorSpec([None, 5], tf.float32, "x")])
    def __call__(self, x):
        return tf.nn.softmax(x @ self.weights)


def vary(model) -> None:
    """Give all weights that begin as zeros or ones other values, that a mix-up shows."""
    draw = np.random.RandomState(0)
    for weight in model.trainable_weights:
        value = weight.numpy()
        weight.assign(value + 0.1 * draw.standard_normal(value.shape).astype(value.dtype))


def save(folder: Path, kind: str) -> None:
    """Write ``KIND.keras``; ``KIND.h5`` if it is named so; ``module`` is a SavedModel."""
    if kind == "module":
        tf.saved_model.save(Weighted(), str(folder / kind))
        return
    name, _, ending = kind.partition(".")
    old = ending in ("h5", "old")
    keras = old_keras() if old else new_keras()
    model = KINDS[name](keras)
    vary(model)
    to = folder / (
        f"{name}.h5" if ending == "h5" else f"{name}-2.keras" if old else f"{name}.keras"
    )
    if ending == "saved":
        model.export(str(folder / f"{name}-saved"))
    else:
        model.save(str(to))


def new_keras():
    import keras

    return keras


def old_keras():
    try:
        import tf_keras
    except ImportError:
        return tf.keras
    return tf_keras


if __name__ == "__main__":
    # FOLDER KIND... -- SCRIPT [ARGUMENT...]: the script runs in the same process, which has loaded
    # TensorFlow already.
    given = sys.argv[1:]
    for library in (new_keras(), old_keras()):  # the same weights each time, and differences
        library.utils.set_random_seed(1)
    end = given.index("--")
    for kind in given[1:end]:
        save(Path(given[0]), kind)
    sys.argv = given[end + 1 :]
    sys.path.insert(0, str(Path(sys.argv[0]).parent))
    runpy.run_path(sys.argv[0], run_name="__main__")
