"""What the cases of two ranks share: data, models, and the comparison with a process alone."""

import hashlib
import sys
from pathlib import Path

import hpctf.keras as hvd
import keras
import numpy as np
import tensorflow as tf
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
    return compare(*trained(optimizer, build, see, options, **settings))


def trained(optimizer, build, see, options=None, **settings):
    """Return what all ranks train, and what one process does."""
    models = []
    for alone in (False, True):
        made = optimizer()
        if not alone:
            made = hvd.DistributedOptimizer(made, **settings)
        models.append(compiled(build, made, alone, **(options or {})))
        fit(models[-1], alone, see=see)
    return models


def in_half(optimizer, build, see=lambda pixels: pixels, exchanged="float32", **settings):
    """Do `both`, where half precision comes in: what is lost by it depends on the machine.

    So one process does the ranks' very arithmetic, on the ranks' shares, and how far rounding alone
    takes it is measured: it is trained again from weights that are off in their last bits.

    Parameters
    ----------
    exchanged
        The type in which gradients travel.
    """
    ours, alone = trained(optimizer, build, see, **settings)
    of_shares = on_shares(optimizer, build, see, exchanged)
    again = [on_shares(optimizer, build, see, exchanged, nudged=seed) for seed in (1, 2, 3)]
    return {
        **compare(ours, alone),
        "from_shares": distance(ours, of_shares),
        "shares_from_alone": distance(of_shares, alone),
        "rounding": max(distance(one, of_shares) for one in again),
    }


def on_shares(optimizer, build, see, exchanged, nudged=None):
    """Train in one process: in each step the average of the gradients of the ranks' shares.

    `nudged` seeds which bits of the first weights are off by one unit in the last place.
    """
    model = compiled(build, optimizer(), True)
    if nudged is not None:
        seeded = np.random.default_rng(nudged)
        ways = [seeded.choice([-np.inf, np.inf], w.shape) for w in model.get_weights()]
        pairs = zip(model.get_weights(), ways, strict=True)
        model.set_weights([np.nextafter(w, way.astype(w.dtype)) for w, way in pairs])
    model.optimizer.build(model.trainable_variables)

    @tf.function
    def step(images, labels):
        shares = []
        for rank in range(SIZE):
            with tf.GradientTape() as tape:
                mine, right = images[rank::SIZE], labels[rank::SIZE]
                loss = model.compute_loss(mine, right, model(mine, training=True))
                loss = model.optimizer.scale_loss(loss)
            gradients = tape.gradient(loss, model.trainable_variables)
            shares.append([tf.cast(gradient, exchanged) for gradient in gradients])
        sums = [tf.add_n(gradients) / SIZE for gradients in zip(*shares, strict=True)]
        model.optimizer.apply([tf.cast(one, "float32") for one in sums])

    pixels = see(PIXELS[rows(True)])
    for place in range(0, len(pixels), batch(True)):
        step(pixels[place : place + batch(True)], LABELS[place : place + batch(True)])
    return model


def distance(left, right):
    """Return how far weights and optimizers of two models are apart at most."""
    return max(apart(a, b) for a, b in zip(state(left), state(right), strict=True))


def mixed(seed):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        return dense(seed)
    finally:
        keras.config.set_dtype_policy(before)


def without_input(seed):
    keras.utils.set_random_seed(seed)
    return keras.Sequential([keras.layers.Dense(32, "tanh"), keras.layers.Dense(10)])


def message_of(function):
    try:
        function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "nothing was raised"
