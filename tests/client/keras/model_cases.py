"""Cases of models and loops: how a training begins, goes on and ends."""

import json

import hpctf.keras as hvd
import keras
import numpy as np
import tensorflow as tf
from comparing import (
    FOLDER,
    LABELS,
    PIXELS,
    RANK,
    SHARE,
    alone,
    both,
    case,
    compare,
    compiled,
    dense,
    digest,
    fit,
    go_on_alone,
    in_half,
    message_of,
    rows,
    state,
    without_input,
)


@case
def a_loop_of_ones_own():
    made = hvd.DistributedOptimizer(keras.optimizers.Adam(0.01, global_clipnorm=0.2))
    model = compiled(dense, made)
    model.optimizer.build(model.trainable_variables)
    hvd.broadcast_variables([*model.weights, *model.optimizer.variables], root_rank=0)

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = model.loss(labels, model(images, training=True))
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply(gradients, model.trainable_variables)

    for place in range(0, len(rows()), SHARE):
        these = rows()[place : place + SHARE]
        step(PIXELS[these], LABELS[these])
    return compare(model, alone(keras.optimizers.Adam(0.01, global_clipnorm=0.2)))


@case
def a_model_that_one_rank_alone_has_made_before():
    """Keras counts names: the ranks must find each other all the same."""
    if RANK == 0:
        made = compiled(dense, keras.optimizers.Adam(0.1))
        made.optimizer.build(made.trainable_variables)
    return both(lambda: keras.optimizers.Adam(0.01))


@case
def a_model_that_fit_builds():
    """There is nothing to broadcast before the first step: it comes after that."""
    made = hvd.DistributedOptimizer(keras.optimizers.Adam(0.01))
    ours = compiled(without_input, made, seed=7)
    fit(ours)
    of_one = alone(keras.optimizers.Adam(0.01), without_input)
    apart = compiled(without_input, hvd.DistributedOptimizer("adam"))
    fit(apart)
    return compare(ours, of_one, begun_apart=digest(state(apart)[0]))


@case
def a_train_step_of_ones_own_in_bfloat16():
    class Own(keras.Sequential):
        def train_step(self, data):
            images, labels = data
            with tf.GradientTape() as tape:
                outputs = self(images, training=True)
                loss = self.compute_loss(images, labels, outputs)
            gradients = tape.gradient(loss, self.trainable_variables)
            self.optimizer.apply_gradients(zip(gradients, self.trainable_variables, strict=True))
            return self.compute_metrics(images, labels, outputs)

    def build(seed):
        keras.utils.set_random_seed(seed)
        layers = [keras.Input([64]), keras.layers.Dense(32, "tanh", dtype="mixed_bfloat16")]
        return Own([*layers, keras.layers.Dense(10)])

    return in_half(lambda: keras.optimizers.SGD(0.1, momentum=0.9), build)


@case
def what_one_rank_restores_all_have():
    """Rank 0 alone restores weights and optimizer, in a callback that stands behind ours."""
    path = str(FOLDER / "restored.weights.h5")
    before = alone(keras.optimizers.Adam(0.02))
    if before is not None:
        before.save_weights(path)

    class Restore(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            if RANK == 0:
                self.model.optimizer.build(self.model.trainable_variables)
                self.model.load_weights(path)

    ours = compiled(dense, hvd.DistributedOptimizer(keras.optimizers.Adam(0.01)))
    fit(ours, callbacks=[Restore()])
    go_on_alone(before)
    return compare(ours, before)


@case
def warm_up_and_averaged_metrics():
    made = hvd.DistributedOptimizer(keras.optimizers.SGD(0.4, 0.9))
    ours = compiled(dense, made, metrics=["accuracy"])
    rates = []

    class Note(keras.callbacks.Callback):
        def on_train_batch_begin(self, batch, logs=None):
            rates.append(float(self.model.optimizer.learning_rate.numpy()))

    kept = {}

    class Own(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            kept[epoch] = logs["loss"]

    calls = hvd.callbacks
    warm = calls.LearningRateWarmupCallback(0.4, warmup_epochs=2, verbose=1)
    later = hvd.LearningRateScheduleCallback(0.4, 0.5, start_epoch=3)
    callbacks = [Own(), warm, later, hvd.MetricAverageCallback(), Note()]
    history = fit(ours, callbacks=callbacks, epochs=5).history
    every = hvd.allgather(np.array([list(kept.values())])).numpy()
    return {
        "weights": digest(state(ours)[0]),
        "rates": rates,
        "lr": history["lr"],
        "loss": history["loss"],
        "losses_of_ranks": every.tolist(),
    }


@case
def momentum_correction():
    """Against Horovod's own rule: the momentum times new rate / old rate, for one step."""
    shown = np.array([1.0, -2.0], "float32")
    model = keras.Sequential([keras.Input([2]), keras.layers.Dense(1, use_bias=False)])
    model.compile(hvd.DistributedOptimizer(keras.optimizers.SGD(0.1, momentum=0.9)), "mse")
    model.set_weights([shown[:, None]])
    rates = [0.1, 0.1, 0.05, 0.02, 0.02, 0.2]
    follow = hvd.LearningRateScheduleCallback(1.0, lambda epoch: rates[int(epoch)])
    x, y = np.array([[1.0, 2.0]], "float32"), np.array([[1.0]], "float32")
    model.fit(x, y, epochs=6, verbose=0, callbacks=[follow])
    weight, velocity, old = shown.astype("float64"), np.zeros(2), rates[0]
    for rate in rates:
        gradient = 2 * (x[0] @ weight - 1.0) * x[0]
        velocity = 0.9 * rate / old * velocity - rate * gradient
        weight, old = weight + velocity, rate
    return {"difference": float(np.abs(model.get_weights()[0][:, 0] - weight).max())}


@case
def saved_and_loaded():
    ours = compiled(dense, hvd.DistributedOptimizer(keras.optimizers.Adam(0.01)))
    fit(ours)
    path = FOLDER / f"model-{RANK}.keras"
    ours.save(path)
    loaded = hvd.load_model(path)
    fit(loaded)
    of_one = alone(keras.optimizers.Adam(0.01))
    np.savez(FOLDER / f"model-{RANK}.npz", *state(ours)[0])
    go_on_alone(of_one)
    kind = json.dumps(keras.optimizers.serialize(ours.optimizer))
    return compare(loaded, of_one, optimizer_config=kind)


@case
def refusals():
    def plain():
        fit(compiled(dense, keras.optimizers.SGD(0.1)))

    def compiled_by_xla():
        optimizer = hvd.DistributedOptimizer(keras.optimizers.SGD(0.1))
        model = compiled(dense, optimizer, jit_compile=True)
        model.fit(PIXELS[:16], LABELS[:16], verbose=0)

    def summed():
        hvd.DistributedOptimizer("sgd", backward_passes_per_step=2)

    class Apart(keras.optimizers.SGD):
        def apply(self, grads, trainable_variables=None):
            for gradient, variable in zip(grads, trainable_variables, strict=True):
                variable.assign_sub(0.1 * gradient)

    def in_a_way_of_its_own():
        model = compiled(dense, hvd.DistributedOptimizer(Apart()))
        fit(model)

    def different_variables():
        hvd.broadcast_variables([tf.Variable(1.0)] * (RANK + 1))

    tried = (plain, compiled_by_xla, summed, in_a_way_of_its_own, different_variables)
    return {function.__name__: message_of(function) for function in tried}


@case
def the_callback_switches_xla_off():
    made = hvd.DistributedOptimizer(keras.optimizers.SGD(0.1))
    model = compiled(dense, made, jit_compile=True)
    fit(model)
    return compare(model, alone(keras.optimizers.SGD(0.1)), jit_compile=model.jit_compile)


@case
def gradients_that_are_not_averaged_would_be_seen():
    """What the other cases would look like if nothing were exchanged."""
    ours = compiled(dense, keras.optimizers.SGD(0.1, momentum=0.9), seed=7)
    ours.fit(PIXELS[rows()], LABELS[rows()], batch_size=SHARE, shuffle=False, verbose=0)
    return compare(ours, alone(keras.optimizers.SGD(0.1, momentum=0.9)))
