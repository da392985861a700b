"""Cases of optimizers: what becomes of the gradients on their way."""

import hpctf.keras as hvd
import keras
import numpy as np
import tensorflow as tf
from comparing import (
    LABELS,
    PIXELS,
    RANK,
    SHARE,
    SIZE,
    STEPS,
    alone,
    both,
    brightest,
    case,
    compare,
    compiled,
    dense,
    embedding,
    fit,
    in_half,
    mixed,
    rows,
)
from hpctf.keras.collectives import Exchange


@case
def sgd_with_momentum():
    measured = {"metrics": ["accuracy"]}
    return both(lambda: keras.optimizers.SGD(0.1, momentum=0.9, nesterov=True), options=measured)


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
    model = compiled(dense, hvd.DistributedOptimizer(ours, **options))
    fit(model)
    plain = keras.optimizers.SGD(0.3, momentum=0.9, gradient_accumulation_steps=3)
    return compare(model, alone(plain))


@case
def a_sum_instead_of_an_average():
    ours = hvd.DistributedOptimizer(keras.optimizers.SGD(0.3 / SIZE, momentum=0.9), op=hvd.Sum)
    model = compiled(dense, ours)
    fit(model)
    found = compare(model, alone(keras.optimizers.SGD(0.3, momentum=0.9)))
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
    return in_half(made, dense, exchanged="float16", compression=hvd.Compression.fp16)


@case
def mixed_precision():
    return in_half(lambda: keras.optimizers.SGD(0.1, momentum=0.9), mixed)


@case
def mixed_precision_wrapped_by_hand():
    def made():
        return keras.optimizers.LossScaleOptimizer(keras.optimizers.Adam(0.01), 1024.0)

    return in_half(made, mixed)


@case
def mixed_precision_accumulated():
    def made():
        return keras.optimizers.SGD(0.3, momentum=0.9, gradient_accumulation_steps=4)

    return in_half(made, mixed)


@case
def an_overflow_on_one_rank_skips_the_step_on_all():
    def see(pixels):
        pixels = pixels.copy()
        # The second image of the fourth whole batch: one that rank 1 alone sees.
        bad = PIXELS[3 * SHARE * SIZE + 1]
        pixels[(pixels == bad).all(axis=1)] = np.inf
        return pixels

    return in_half(lambda: keras.optimizers.SGD(0.1, momentum=0.9), mixed, see)


@case
def two_optimizers_in_one_step():
    """As of a GAN: both exchange at once, accumulated or not, one of them twice in a step."""
    ours = three_trained(hvd.DistributedOptimizer, PIXELS[rows()], LABELS[rows()], SHARE)
    if RANK == 0:
        whole = STEPS * SHARE * SIZE
        ones = three_trained(lambda plain: plain, PIXELS[:whole], LABELS[:whole], SHARE * SIZE)
    else:
        ones = [None] * 3
    found = [compare(*two) for two in zip(ours, ones, strict=True)]
    together = {"weights": "".join, "optimizer": "".join, "moved": min}
    return {name: together.get(name, max)([one[name] for one in found]) for name in found[0]}


def three_trained(distributed, pixels, labels, size):
    made = [keras.optimizers.SGD(0.1, gradient_accumulation_steps=2) for _ in range(2)]
    made.append(keras.optimizers.SGD(0.1))
    three = [compiled(dense, distributed(one), seed=7) for one in made]
    for model in three:
        model.optimizer.build(model.trainable_variables)

    @tf.function
    def step(images, right):
        gradients = []
        with tf.GradientTape(persistent=True) as tape:
            losses = [model.loss(right, model(images)) for model in three]
        for model, loss in zip(three, losses, strict=True):
            gradients.append(tape.gradient(loss, model.trainable_variables))
        for model, own in zip(three, gradients, strict=True):
            model.optimizer.apply(own, model.trainable_variables)
        three[2].optimizer.apply(gradients[2], three[2].trainable_variables)

    for place in range(0, len(pixels), size):
        step(pixels[place : place + size], labels[place : place + size])
    return three


@case
def exchanges_once_in_so_many_steps():
    import horovod.tensorflow as plain

    counted, own = [], plain.grouped_allreduce
    plain.grouped_allreduce = lambda *args, **kwargs: counted.append(1) or own(*args, **kwargs)
    try:
        made = keras.optimizers.SGD(0.1, gradient_accumulation_steps=4)
        eager = {"run_eagerly": True}
        fit(compiled(dense, hvd.DistributedOptimizer(made), **eager))
    finally:
        plain.grouped_allreduce = own
    return {"exchanges": len(counted), "steps": STEPS}
