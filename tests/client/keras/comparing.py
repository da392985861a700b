"""What the cases of two ranks share: data, models, and the comparison with a process alone."""

import hashlib
import sys
from pathlib import Path

import hpctf.keras as hvd
import keras
import numpy as np
import tensorflow as tf

STEPS, SHARE = 12, 16
DIGITS = np.loadtxt(
    Path(np.__file__).parents[1] / "sklearn/datasets/data/digits.csv.gz", delimiter=","
)
"""scikit-learn's handwritten digits, without scikit-learn, which is left out here."""
PIXELS, LABELS = (DIGITS[:, :-1] / 16).astype("float32"), DIGITS[:, -1].astype("int32")
CASES = {}

hvd.init()
RANK, SIZE = hvd.rank(), hvd.size()
FOLDER = Path(sys.argv[1])


def case(function):
    """Note a case by its function's name."""
    CASES[function.__name__] = function
    return function


def rows():
    """Return which images this rank sees, in order: every SIZE-th of each whole batch."""
    return np.arange(STEPS * SHARE * SIZE)[RANK::SIZE]


def batches(see=lambda pixels: pixels):
    """Return the whole batches, of which each rank has a share, in order."""
    pixels = see(PIXELS[: STEPS * SHARE * SIZE])
    size = SHARE * SIZE
    return [(pixels[n : n + size], LABELS[n : n + size]) for n in range(0, len(pixels), size)]


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


def compiled(build, optimizer, *, seed=7 + RANK, **options):
    """Return a model as a rank begins with it: with weights of its own, before the broadcast."""
    model = build(seed)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(optimizer, loss, **options)
    return model


def fit(model, *, see=lambda pixels: pixels, callbacks=(), epochs=1):
    first = hvd.callbacks.BroadcastGlobalVariablesCallback(0)
    return model.fit(
        see(PIXELS[rows()]),
        LABELS[rows()],
        batch_size=SHARE,
        epochs=epochs,
        shuffle=False,
        verbose=0,
        callbacks=[first, *callbacks],
    )


def alone(optimizer, build=dense, see=lambda pixels: pixels):
    """Return what one process trains, on the whole batches.

    Rank 0 does it: the ranks hold the same to the bit, so that others would only measure again.
    """
    if RANK != 0:
        return None
    model = compiled(build, optimizer, seed=7)
    go_on_alone(model, see)
    return model


def go_on_alone(model, see=lambda pixels: pixels):
    """Train in one process, with nothing but TensorFlow's tape and Keras's optimizer."""
    if model is None:
        return

    @tf.function
    def step(images, labels):
        with tf.GradientTape() as tape:
            loss = model.compute_loss(images, labels, model(images, training=True))
            loss = model.optimizer.scale_loss(loss)
        gradients = tape.gradient(loss, model.trainable_variables)
        model.optimizer.apply(gradients, model.trainable_variables)

    whole = batches(see)
    model(whole[0][0])  # a model without an input has no variables before
    model.optimizer.build(model.trainable_variables)
    for images, labels in whole:
        step(images, labels)
    model.optimizer.finalize_variable_values(model.trainable_variables)


def state(model):
    weights = [np.asarray(keras.ops.convert_to_numpy(v)) for v in model.weights]
    return weights, [np.asarray(keras.ops.convert_to_numpy(v)) for v in model.optimizer.variables]


def digest(arrays):
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()


def apart(left, right):
    return float(
        max(np.abs(a.astype("float64") - b).max() for a, b in zip(left, right, strict=True))
    )


def compare(ours, of_one, **more):
    """Return what is asked of every case: bits of weights and optimizer, distance from alone."""
    weights, held = state(ours)
    found = {"weights": digest(weights), "optimizer": digest(held), **more}
    if of_one is None:
        return found
    right, right_held = state(of_one)
    begun = state(compiled(dense, "sgd", seed=7))[0]
    return {
        **found,
        "from_alone": apart(weights, right),
        "state_from_alone": apart(held, right_held),
        "moved": apart(weights, begun) if len(right) == 4 else 1.0,
    }


def both(optimizer, build=dense, see=lambda pixels: pixels, options=None, **settings):
    """Train on all ranks and alone, with optimizers of the same settings."""
    return compare(*trained(optimizer, build, see, options, **settings))


def trained(optimizer, build, see, options=None, **settings):
    """Return what all ranks train, and what one process does."""
    made = hvd.DistributedOptimizer(optimizer(), **settings)
    ours = compiled(build, made, **(options or {}))
    fit(ours, see=see)
    return ours, alone(optimizer(), build, see)


def in_half(optimizer, build, see=lambda pixels: pixels, exchanged="float32", **settings):
    """Do `both`, where half precision comes in: what is lost by it depends on the machine.

    So one process does the ranks' very arithmetic, on the ranks' shares, and how far rounding alone
    takes it is measured: it is trained again from weights that are off in their last bits.

    Parameters
    ----------
    exchanged
        The type in which gradients travel.
    """
    ours, of_one = trained(optimizer, build, see, **settings)
    found = compare(ours, of_one)
    if hasattr(ours.optimizer, "dynamic_scale"):
        found["scale"] = float(ours.optimizer.dynamic_scale.numpy())
    if of_one is None:
        return found
    of_shares, *again = on_shares(optimizer, build, see, exchanged)
    return {
        **found,
        "from_shares": distance(state(ours), of_shares),
        "shares_from_alone": distance(of_shares, state(of_one)),
        "rounding": max(distance(nudged, of_shares) for nudged in again),
    }


def on_shares(optimizer, build, see, exchanged):
    """Train in one process: in each step the average of the gradients of the ranks' shares.

    Returns the state at the end, and those of three trials in which the first weights are off by
    one unit in the last place, up or down by chance.
    """
    model = compiled(build, optimizer(), seed=7)
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

    weights, held = state(model)
    found = []
    for seed in (None, 1, 2, 3):
        model.set_weights(weights if seed is None else nudged(weights, seed))
        for variable, value in zip(model.optimizer.variables, held, strict=True):
            variable.assign(value)
        for images, labels in batches(see):
            step(images, labels)
        found.append(state(model))
    return found


def nudged(weights, seed):
    seeded = np.random.default_rng(seed)
    ways = [seeded.choice([-np.inf, np.inf], weight.shape) for weight in weights]
    pairs = zip(weights, ways, strict=True)
    return [np.nextafter(weight, way.astype(weight.dtype)) for weight, way in pairs]


def distance(left, right):
    """Return how far the weights and optimizers of two states are apart at most."""
    return max(apart(a, b) for a, b in zip(left, right, strict=True))


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
