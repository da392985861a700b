"""Trains with each of Horovod's callbacks and each optimizer of tf-keras, new and legacy."""

import traceback

import horovod.tensorflow.keras as hvd
import numpy as np
import tensorflow as tf

STEPS, RATE, MOMENTUM = 4, 0.01, 0.9
RANDOM = np.random.RandomState(7)
INPUTS = RANDOM.rand(16 * STEPS, 3).astype("float32")
TARGETS = INPUTS.sum(axis=1, keepdims=True)


def optimizers():
    """Return what makes each optimizer, by name."""
    found = {}
    for home, names in (("", tf.keras.optimizers), ("legacy.", tf.keras.optimizers.legacy)):
        for name in dir(names):
            made = getattr(names, name)
            if name not in ("Optimizer", "LossScaleOptimizer") and isinstance(made, type):
                found[home + name] = made
    for name in ("SGD", "RMSprop", "legacy.SGD", "legacy.RMSprop"):
        make = found[name]
        found[name + " with momentum"] = lambda *rate, make=make: make(*rate, momentum=MOMENTUM)
    return found


def callbacks():
    decay = hvd.callbacks.LearningRateScheduleCallback
    return [
        hvd.callbacks.BroadcastGlobalVariablesCallback(0),
        hvd.callbacks.LearningRateWarmupCallback(RATE, warmup_epochs=1, verbose=1),
        decay(RATE, lambda epoch: 0.5**epoch, start_epoch=1),
        decay(RATE, 0.5, start_epoch=2, staircase=False, steps_per_epoch=STEPS),
        hvd.callbacks.MetricAverageCallback(),
        tf.keras.callbacks.ReduceLROnPlateau(monitor="loss"),
    ]


def trained(optimizer, chosen, epochs):
    tf.keras.utils.set_random_seed(7)
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=[3])])
    model.compile(optimizer, "mse")
    history = model.fit(
        INPUTS, TARGETS, 16, epochs=epochs, callbacks=chosen, shuffle=False, verbose=0
    )
    return model, history.history


def by_hand(rates):
    """Return the weights of SGD whose velocity is scaled as the rate changes."""
    tf.keras.utils.set_random_seed(7)
    model = tf.keras.Sequential([tf.keras.layers.Dense(1, input_shape=[3])])
    past = [np.zeros_like(weight) for weight in model.get_weights()]
    before = RATE
    for step, rate in enumerate(rates):
        part = slice(16 * (step % STEPS), 16 * (step % STEPS) + 16)
        with tf.GradientTape() as tape:
            loss = tf.reduce_mean((model(INPUTS[part]) - TARGETS[part]) ** 2)
        for n, (weight, gradient) in enumerate(
            zip(
                model.trainable_variables,
                tape.gradient(loss, model.trainable_variables),
                strict=True,
            )
        ):
            past[n] = MOMENTUM * past[n] * rate / before - rate * gradient.numpy()
            weight.assign_add(past[n])
        before = rate
    return model.get_weights()


def of_all_optimizers():
    """Return each optimizer's learning rates by epoch, and how far momentum is from one by hand."""
    found = {}
    for name, make in optimizers().items():
        try:
            optimizer = hvd.DistributedOptimizer(make(RATE))
            _, history = trained(optimizer, callbacks(), epochs=3)
            found[name] = [float(rate) for rate in history["lr"]]
        except Exception:
            found[name] = traceback.format_exc()[-1500:]
    halve = hvd.callbacks.LearningRateScheduleCallback(RATE, 0.5)
    for name in ("SGD", "legacy.SGD"):
        made = optimizers()[name + " with momentum"](RATE)
        model, _ = trained(hvd.DistributedOptimizer(made), [halve], epochs=3)
        rates = [RATE] * STEPS + [RATE / 2] * STEPS + [RATE / 4] * STEPS
        pairs = zip(model.get_weights(), by_hand(rates), strict=True)
        found["by hand, " + name] = float(max(np.abs(a - b).max() for a, b in pairs))
    return found
