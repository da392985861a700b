"""Trains with Horovod's own Keras module under tf-keras, on all ranks and once more alone.

Started by test_keras.py with mpirun, TF_USE_LEGACY_KERAS=1, in the training environment. A second
word, ``rates``, also trains with each callback and optimizer (rates.py).
"""

import hashlib
import json
import sys
from pathlib import Path

import horovod.tensorflow.keras as hvd
import hpctf.keras.version
import numpy as np
import rates
import tensorflow as tf

STEPS, SHARE = 12, 16
DIGITS = np.loadtxt(
    Path(np.__file__).parents[1] / "sklearn/datasets/data/digits.csv.gz", delimiter=","
)
"""scikit-learn's handwritten digits, without scikit-learn, which is left out here."""
PIXELS, LABELS = (DIGITS[:, :-1] / 16).astype("float32"), DIGITS[:, -1].astype("int32")

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


def alone(whole):
    """Return the weights of one process, which follows the rates of the ranks' warm-up."""
    steps = [(e + 1 / STEPS) * (SIZE - 1) / SIZE + 1 / SIZE for e in np.arange(STEPS) / STEPS]
    following = iter([0.01 * step for step in steps] + [0.01] * STEPS)

    class Follow(tf.keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            tf.keras.backend.set_value(self.model.optimizer.lr, next(following))

    plain = tf.keras.optimizers.Adam(0.01)
    return trained(plain, whole, SHARE * SIZE, [Follow()])[0].get_weights()


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
    answer = {
        "weights": hashlib.sha256(b"".join(a.tobytes() for a in ours.get_weights())).hexdigest(),
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
    if sys.argv[2:] == ["rates"]:
        answer["rates"] = rates.of_all_optimizers()
    # Last, when no exchange is left: what one rank makes alone shifts the names of its exchanges.
    if RANK == 0:
        pairs = zip(ours.get_weights(), alone(whole), strict=True)
        answer["from_alone"] = float(max(np.abs(a - b).max() for a, b in pairs))
    (Path(sys.argv[1]) / f"rank-{RANK}.json").write_text(json.dumps(answer))


if __name__ == "__main__":
    main()
