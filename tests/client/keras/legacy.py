"""Trains with Horovod's own Keras module under tf-keras, on all ranks and once more alone.

Started by test_keras.py with mpirun, TF_USE_LEGACY_KERAS=1, in the training environment.
"""

import hashlib
import json
import sys
from pathlib import Path

import horovod.tensorflow.keras as hvd
import hpctf.keras.version
import numpy as np
import tensorflow as tf
from sklearn.datasets import load_digits

STEPS, SHARE = 12, 16
PIXELS, LABELS = load_digits(return_X_y=True)
PIXELS, LABELS = (PIXELS / 16).astype("float32"), LABELS.astype("int32")

hvd.init()
RANK, SIZE = hvd.rank(), hvd.size()


def trained(optimizer, mine, share, callbacks):
    tf.keras.utils.set_random_seed(7)
    layers = [tf.keras.layers.Dense(32, "tanh", input_shape=[64]), tf.keras.layers.Dense(10)]
    model = tf.keras.Sequential(layers)
    loss = tf.keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"])
    options = {"batch_size": share, "shuffle": False, "verbose": 0, "callbacks": callbacks}
    history = model.fit(PIXELS[mine], LABELS[mine], epochs=2, **options)
    return model, history.history


def main():
    whole = np.arange(STEPS * SHARE * SIZE)
    callbacks = [
        hvd.callbacks.BroadcastGlobalVariablesCallback(0),
        hvd.callbacks.LearningRateWarmupCallback(0.01, warmup_epochs=1, steps_per_epoch=STEPS),
        hvd.callbacks.LearningRateScheduleCallback(0.01, 0.1, start_epoch=1),
        hvd.callbacks.MetricAverageCallback(),
    ]
    schedule = hpctf.keras.callbacks.LearningRateScheduleCallback
    optimizer = hvd.DistributedOptimizer(tf.keras.optimizers.Adam(0.01))
    ours, history = trained(optimizer, whole[RANK::SIZE], SHARE, callbacks)
    steps = [(e + 1 / STEPS) * (SIZE - 1) / SIZE + 1 / SIZE for e in np.arange(STEPS) / STEPS]
    rates = iter([0.01 * step for step in steps] + [0.01] * STEPS)

    class Follow(tf.keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            tf.keras.backend.set_value(self.model.optimizer.lr, next(rates))

    plain = tf.keras.optimizers.Adam(0.01)
    alone, _ = trained(plain, whole, SHARE * SIZE, [Follow()])
    pairs = list(zip(ours.get_weights(), alone.get_weights(), strict=True))
    answer = {
        "weights": hashlib.sha256(b"".join(a.tobytes() for a, _ in pairs)).hexdigest(),
        "from_alone": float(max(np.abs(a - b).max() for a, b in pairs)),
        "lr": [float(rate) for rate in history["lr"]],
        "loss": [float(loss) for loss in history["loss"]],
        "keras": hpctf.keras.version.keras_version(),
        "same": hpctf.keras.DistributedOptimizer is hvd.DistributedOptimizer
        and schedule is hvd.callbacks.LearningRateScheduleCallback,
    }
    try:
        import horovod.keras  # noqa: F401
    except ImportError as error:
        answer["horovod.keras"] = str(error)
    import keras

    try:
        hvd.DistributedOptimizer(keras.optimizers.SGD(0.1))
    except TypeError as error:
        answer["optimizer of Keras 3"] = str(error)
    (Path(sys.argv[1]) / f"rank-{RANK}.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
