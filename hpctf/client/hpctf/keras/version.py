"""Which Keras ``tf.keras`` is in this process."""

import sys


def keras_version() -> str:
    """Return the version of the Keras that is ``tf.keras``: Keras 3's, or tf-keras's 2.x.

    TensorFlow makes its choice when ``tf.keras`` is first used: tf-keras where
    TF_USE_LEGACY_KERAS is ``1``, ``true`` or ``True`` then (tensorflow/python/util/lazy_loader.py).
    """
    import tensorflow as tf

    # tf-keras's public module has no version of its own: the package does that classes come from.
    package = sys.modules[tf.keras.Model.__module__.partition(".")[0]]
    return str(getattr(package, "__version__", ""))


def is_keras_3() -> bool:
    """Whether ``tf.keras`` is Keras 3 (or later), which Horovod's own Keras module fails under."""
    major = keras_version().partition(".")[0]
    return major.isdigit() and int(major) >= 3
