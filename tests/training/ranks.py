"""Trains under Keras 3 on all ranks, and once more in one process on the whole batches.

Started by test_keras.py with mpirun, in the training environment, and started once: each case is
cheap, the start is not. Every rank writes what became of each case to the folder that is named.
"""

import hashlib
import json
import sys
import traceback
from pathlib import Path

import hpctf.keras as hvd
import keras
import numpy as np
import tensorflow as tf
from hpctf.keras.exchange import Exchange
from sklearn.datasets import load_digits

STEPS, SHARE = 12, 16
PIXELS, LABELS = load_digits(return_X_y=True)
PIXELS, LABELS = (PIXELS / 16).astype("float32"), LABELS.astype("int32")
CASES = {}

hvd.init()
RANK, SIZE = hvd.rank(), hvd.size()
FOLDER = Path(sys.argv[1])


def case(function):
    """Note a case by its function's name."""
    CASES[function.__name__] = function
    return function


def rows(alone):
    """Return which images a rank sees, in order: every SIZE-th of each whole batch, or all."""
    whole = np.arange(STEPS * SHARE * SIZE)
    return whole if alone else whole[RANK::SIZE]


def batch(alone):
    return SHARE * SIZE if alone else SHARE


def dense(seed):
    keras.utils.set_random_seed(seed)
    layers = [keras.Input([64]), keras.layers.Dense(32, "tanh"), keras.layers.Dense(10)]
    return keras.Sequential(layers)


def embedding(seed):
    """Return a model of the images' brightest pixels, each of which has a vector of its own."""
    keras.utils.set_random_seed(seed)
    layers = [keras.Input([8], dtype="int32"), keras.layers.Embedding(64, 6)]
    return keras.Sequential([*layers, keras.layers.Flatten(), keras.layers.Dense(10)])


def brightest(pixels):
    return np.argsort(-pixels, axis=1, kind="stable")[:, :8].astype("int32")


def compiled(build, optimizer, alone, *, seed=None, **options):
    """Return a model as a rank begins with it: with weights of its own, before the broadcast."""
    model = build(7 if alone else 7 + RANK if seed is None else seed)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, metrics=["accuracy"], **options)
    return model


def fit(model, alone, *, see=lambda pixels: pixels, callbacks=(), epochs=1):
    mine = rows(alone)
    first = [] if alone else [hvd.callbacks.BroadcastGlobalVariablesCallback(0)]
    return model.fit(
        see(PIXELS[mine]),
        LABELS[mine],
        batch_size=batch(alone),
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[*first, *callbacks],
    )


def state(model):
    weights = [np.asarray(keras.ops.convert_to_numpy(v)) for v in model.weights]
    return weights, [np.asarray(keras.ops.convert_to_numpy(v)) for v in model.optimizer.variables]


def digest(arrays):
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()


def apart(left, right):
    return float(
        max(np.abs(a.astype("float64") - b).max() for a, b in zip(left, right, strict=True))
    )


def compare(ours, alone, **more):
    """Return what is asked of every case: bits of weights and optimizer, distance from alone."""
    (weights, held), (right, right_held) = state(ours), state(alone)
    return {
        "weights": digest(weights),
        "optimizer": digest(held),
        "from_alone": apart(weights, right),
        "state_from_alone": apart(held, right_held),
        "moved": apart(weights, state(compiled(dense, "sgd", True))[0]) if len(right) == 4 else 1.0,
        **more,
    }


def both(optimizer, build=dense, see=lambda pixels: pixels, options=None, **settings):
    """Train on all ranks and alone, with optimizers of the same settings."""
    models = []
    for alone in (False, True):
        made = optimizer()
        if not alone:
            made = hvd.DistributedOptimizer(made, **settings)
        models.append(compiled(build, made, alone, **(options or {})))
        fit(models[-1], alone, see=see)
    return compare(*models)


@case
def sgd_with_momentum():
    return both(lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True))


@case
def adam_with_clipnorm():
    return both(lambda: keras.optimizers.Adam(0.01, clipnorm=0.05))


@case
def sgd_with_global_clipnorm():
    return both(lambda: keras.optimizers.SGD(0.5, global_clipnorm=0.1))


@case
def sgd_with_clipvalue():
    return both(lambda: keras.optimizers.SGD(0.5, clipvalue=0.002))


@case
def weight_decay_and_averaged_weights():
    return both(
        lambda: keras.optimizers.AdamW(
            0.01, weight_decay=0.1, use_ema=True, ema_momentum=0.9, ema_overwrite_frequency=5
        )
    )


@case
def a_learning_rate_schedule():
    rate = keras.optimizers.schedules.ExponentialDecay
    return both(lambda: keras.optimizers.SGD(rate(0.5, 3, 0.7), momentum=0.5))


@case
def accumulated_gradients():
    return both(
        lambda: keras.optimizers.SGD(0.3, momentum=0.9, gradient_accumulation_steps=4, clipnorm=0.3)
    )


@case
def backward_passes_as_horovod_calls_them():
    ours = keras.optimizers.SGD(0.3, momentum=0.9)
    options = {"backward_passes_per_step": 3, "average_aggregated_gradients": True}
    model = compiled(dense, hvd.DistributedOptimizer(ours, **options), False)
    fit(model, False)
    plain = keras.optimizers.SGD(0.3, momentum=0.9, gradient_accumulation_steps=3)
    alone = compiled(dense, plain, True)
    fit(alone, True)
    return compare(model, alone)


@case
def a_sum_instead_of_an_average():
    ours = hvd.DistributedOptimizer(keras.optimizers.SGD(0.3 / SIZE, momentum=0.9), op=hvd.Sum)
    model = compiled(dense, ours, False)
    fit(model, False)
    alone = compiled(dense, keras.optimizers.SGD(0.3, momentum=0.9), True)
    fit(alone, True)
    found = compare(model, alone)
    return {**found, "state_from_alone": 0.0}  # the learning rates differ, as they must


@case
def gradients_in_groups():
    return both(lambda: keras.optimizers.SGD(0.1, momentum=0.9), groups=2)


@case
def eager_steps():
    return both(lambda: keras.optimizers.Adam(0.01), options={"run_eagerly": True})


@case
def several_steps_at_once():
    return both(lambda: keras.optimizers.Adam(0.01), options={"steps_per_execution": 4})


@case
def embeddings_sparse_with_adam():
    kinds, own = [], Exchange.reduce

    def reduce(self, gradients):
        kinds.append([type(gradient).__name__ for gradient in gradients])
        return own(self, gradients)

    Exchange.reduce = reduce
    try:
        found = both(lambda: keras.optimizers.Adam(0.05, clipnorm=0.1), embedding, brightest)
    finally:
        Exchange.reduce = own
    return {**found, "kinds": kinds[0]}


@case
def embeddings_sparse_with_sgd():
    return both(lambda: keras.optimizers.SGD(0.5, momentum=0.9), embedding, brightest)


@case
def embeddings_sparse_accumulated():
    made = {"gradient_accumulation_steps": 3}
    return both(lambda: keras.optimizers.SGD(0.5, momentum=0.9, **made), embedding, brightest)


@case
def embeddings_as_dense():
    made = lambda: keras.optimizers.SGD(0.5, momentum=0.9)  # noqa: E731
    return both(made, embedding, brightest, sparse_as_dense=True)


@case
def compression_to_float16():
    made = lambda: keras.optimizers.SGD(0.1, momentum=0.9)  # noqa: E731
    return both(made, compression=hvd.Compression.fp16)


def mixed(seed):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return dense(seed)
    finally:
        keras.config.set_dtype_policy(before)


@case
def mixed_precision():
    return both(lambda: keras.optimizers.SGD(0.1, momentum=0.9), mixed)


@case
def mixed_precision_wrapped_by_hand():
    def made():
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01), 1024.0)

    return both(made, mixed)


@case
def mixed_precision_accumulated():
    def made():
        return keras.optimizers.SGD(0.3, momentum=0.9, gradient_accumulation_steps=4)

    return both(made, mixed)


@case
def an_overflow_on_one_rank_skips_the_step_on_all():
    def see(pixels):
        pixels = pixels.copy()
        # The second image of the fourth whole batch: one that rank 1 alone sees.
        bad = PIXELS[3 * SHARE * SIZE + 1]
        pixels[(pixels == bad).all(axis=1)] = np.inf
        return pixels

    found = both(lambda: keras.optimizers.SGD(0.1, momentum=0.9), mixed, see)
    ours = hvd.DistributedOptimizer(keras.optimizers.SGD(0.1))
    model = compiled(mixed, ours, False)
    fit(model, False, see=see)
    return {**found, "scale": float(model.optimizer.dynamic_scale.numpy())}


@case
def a_loop_of_ones_own():
    models = []
    for alone in (False, True):
        made = keras.optimizers.Adam(0.01, global_clipnorm=0.2)
        model = compiled(dense, made if alone else hvd.DistributedOptimizer(made), alone)
        model.optimizer.build(model.trainable_variables)
        if not alone:
            hvd.broadcast_variables([*model.weights, *model.optimizer.variables], root_rank=0)
        lossf, optimizer = model.loss, model.optimizer

        @tf.function
        def step(images, labels, model=model, lossf=lossf, optimizer=optimizer):
            with tf.GradientTape() as tape:
                loss = lossf(labels, model(images, training=True))
            gradients = tape.gradient(loss, model.trainable_variables)
            optimizer.apply(gradients, model.trainable_variables)

        mine, size = rows(alone), batch(alone)
        for place in range(0, len(mine), size):
            these = mine[place : place + size]
            step(PIXELS[these], LABELS[these])
        models.append(model)
    return compare(*models)


@case
def a_model_that_one_rank_alone_has_made_before():
    """Keras counts names: the ranks must find each other all the same."""
    if RANK == 0:
        made = compiled(dense, keras.optimizers.Adam(0.1), True)
        made.optimizer.build(made.trainable_variables)
    return both(lambda: keras.optimizers.Adam(0.01))


def without_input(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.layers.Dense(32, "tanh"), keras.layers.Dense(10)])


@case
def a_model_that_fit_builds():
    """There is nothing to broadcast before the first step: it comes after that."""
    models = []
    for alone in (False, True):
        made = keras.optimizers.Adam(0.01)
        made = made if alone else hvd.DistributedOptimizer(made)
        models.append(compiled(without_input, made, alone, seed=7))
        fit(models[-1], alone)
    apart = compiled(without_input, hvd.DistributedOptimizer("adam"), False)
    fit(apart, False)
    return compare(*models, begun_apart=digest(state(apart)[0]))


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

    return both(lambda: keras.optimizers.SGD(0.1, momentum=0.9), build)


@case
def two_optimizers_in_one_step():
    """As of a GAN: both exchange at once, accumulated or not, one of them twice in a step."""
    models = []
    for alone in (False, True):
        made = [keras.optimizers.SGD(0.1, gradient_accumulation_steps=2) for _ in range(2)]
        made.append(keras.optimizers.SGD(0.1))
        if not alone:
            made = [hvd.DistributedOptimizer(one) for one in made]
        three = [compiled(dense, one, True) for one in made]
        for model in three:
            model.optimizer.build(model.trainable_variables)

        @tf.function
        def step(images, labels, three=three):
            gradients = []
            with tf.GradientTape(persistent=True) as tape:
                losses = [model.loss(labels, model(images)) for model in three]
            for model, loss in zip(three, losses, strict=True):
                gradients.append(tape.gradient(loss, model.trainable_variables))
            for model, own in zip(three, gradients, strict=True):
                model.optimizer.apply(own, model.trainable_variables)
            three[2].optimizer.apply(gradients[2], three[2].trainable_variables)

        mine, size = rows(alone), batch(alone)
        for place in range(0, len(mine), size):
            these = mine[place : place + size]
            step(PIXELS[these], LABELS[these])
        models.append(three)
    found = [compare(*two) for two in zip(*models, strict=True)]
    names = ("from_alone", "state_from_alone")
    return {
        **{name: max(one[name] for one in found) for name in names},
        **{name: "".join(one[name] for one in found) for name in ("weights", "optimizer")},
        "moved": min(one["moved"] for one in found),
    }


@case
def exchanges_once_in_so_many_steps():
    import horovod.tensorflow as plain

    counted, own = [], plain.grouped_allreduce
    plain.grouped_allreduce = lambda *args, **kwargs: counted.append(1) or own(*args, **kwargs)
    try:
        made = keras.optimizers.SGD(0.1, gradient_accumulation_steps=4)
        eager = {"run_eagerly": True}
        fit(compiled(dense, hvd.DistributedOptimizer(made), False, **eager), False)
    finally:
        plain.grouped_allreduce = own
    return {"exchanges": len(counted), "steps": STEPS}


@case
def what_one_rank_restores_all_have():
    """Rank 0 alone restores weights and optimizer, in a callback that stands behind ours."""
    path = str(FOLDER / f"restored-{RANK}.weights.h5")
    before = compiled(dense, keras.optimizers.Adam(0.02), True)
    fit(before, True)
    before.save_weights(path)

    class Restore(keras.callbacks.Callback):
        def on_train_begin(self, logs=None):
            if RANK == 0:
                self.model.optimizer.build(self.model.trainable_variables)
                self.model.load_weights(path)

    ours = compiled(dense, hvd.DistributedOptimizer(keras.optimizers.Adam(0.01)), False)
    fit(ours, False, callbacks=[Restore()])
    fit(before, True)
    return compare(ours, before)


@case
def warm_up_and_averaged_metrics():
    ours = compiled(dense, hvd.DistributedOptimizer(keras.optimizers.SGD(0.4, 0.9)), False)
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
    history = fit(ours, False, callbacks=callbacks, epochs=5).history
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
    ours = compiled(dense, hvd.DistributedOptimizer(keras.optimizers.Adam(0.01)), False)
    fit(ours, False)
    path = FOLDER / f"model-{RANK}.keras"
    ours.save(path)
    loaded = hvd.load_model(path)
    fit(loaded, False)
    alone = compiled(dense, keras.optimizers.Adam(0.01), True)
    fit(alone, True)
    np.savez(FOLDER / f"model-{RANK}.npz", *state(ours)[0])
    fit(alone, True)
    kind = json.dumps(keras.optimizers.serialize(ours.optimizer))
    return compare(loaded, alone, optimizer_config=kind)


def message_of(function):
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"


@case
def refusals():
    def plain():
        fit(compiled(dense, keras.optimizers.SGD(0.1), False), False)

    def compiled_by_xla():
        optimizer = hvd.DistributedOptimizer(keras.optimizers.SGD(0.1))
        model = compiled(dense, optimizer, False, jit_compile=True)
        model.fit(PIXELS[:16], LABELS[:16], verbose=0)

    def summed():
        hvd.DistributedOptimizer("sgd", backward_passes_per_step=2)

    class Apart(keras.optimizers.SGD):
        def apply(self, grads, trainable_variables=None):
            for gradient, variable in zip(grads, trainable_variables, strict=True):
                variable.assign_sub(0.1 * gradient)

    def in_a_way_of_its_own():
        model = compiled(dense, hvd.DistributedOptimizer(Apart()), False)
        fit(model, False)

    def different_variables():
        hvd.broadcast_variables([tf.Variable(1.0)] * (RANK + 1))

    tried = (plain, compiled_by_xla, summed, in_a_way_of_its_own, different_variables)
    return {function.__name__: message_of(function) for function in tried}


@case
def the_callback_switches_xla_off():
    made = hvd.DistributedOptimizer(keras.optimizers.SGD(0.1))
    model = compiled(dense, made, False, jit_compile=True)
    fit(model, False)
    alone = compiled(dense, keras.optimizers.SGD(0.1), True)
    fit(alone, True)
    return compare(model, alone, jit_compile=model.jit_compile)


@case
def gradients_that_are_not_averaged_would_be_seen():
    """What the other cases would look like if nothing were exchanged."""
    ours = compiled(dense, keras.optimizers.SGD(0.1, momentum=0.9), False, seed=7)
    mine = rows(False)
    ours.fit(PIXELS[mine], LABELS[mine], batch_size=SHARE, shuffle=False, verbose=0)
    alone = compiled(dense, keras.optimizers.SGD(0.1, momentum=0.9), True)
    fit(alone, True)
    return compare(ours, alone)


def main():
    chosen = sys.argv[2:] or list(CASES)
    answers = {}
    for name in chosen:
        try:
            answers[name] = CASES[name]()
        except Exception:
            answers[name] = {"error": traceback.format_exc()}
            (FOLDER / f"rank-{RANK}.json").write_text(json.dumps(answers))
            print(f"rank {RANK}: {name}:", answers[name]["error"], file=sys.stderr, flush=True)
            sys.exit(1)  # the other ranks would wait for ever
    (FOLDER / f"rank-{RANK}.json").write_text(json.dumps(answers))


if __name__ == "__main__":
    main()
