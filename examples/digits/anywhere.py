"""One script for every backend: hpctf gives each process its strategy and its share of the data.

Submit it with any `--backend`, or run it with plain `python` where hpctf is installed.
"""

import digits
import numpy as np
import tensorflow as tf

import hpctf


def build(rank: int) -> tf.keras.Model:
    """Return the network: weights that are the same on all ranks, dropout that is not."""
    tf.keras.utils.set_random_seed(digits.SEED)
    return tf.keras.Sequential(
        [
            tf.keras.Input([digits.PIXELS]),
            tf.keras.layers.Dense(64, activation="relu"),
            tf.keras.layers.Dropout(0.1, seed=digits.SEED + rank),
            tf.keras.layers.Dense(digits.CLASSES, activation="softmax"),
        ]
    )


def main() -> None:
    """Train, save and report."""
    args = digits.arguments(__doc__, epochs=12, learning_rate=0.003)
    # First of all: with `--ps-mode script` workers and ps stay in here, and serve.
    strategy = hpctf.strategy()
    train, (held_images, held_labels) = digits.load()
    with strategy.scope():
        model = build(strategy.rank)
        model.compile(
            strategy.optimizer(tf.keras.optimizers.Adam(args.learning_rate)),
            loss="sparse_categorical_crossentropy",
            metrics=["accuracy"],
        )
    examples = len(train[0])
    model.fit(
        # Each rank has a share of its own, in an order of its own: that of SEED + rank.
        strategy.data(
            lambda: tf.data.Dataset.from_tensor_slices(train),
            args.batch_size,
            shuffle=examples,
            seed=digits.SEED,
        ),
        steps_per_epoch=strategy.steps(examples, args.batch_size),
        epochs=args.epochs,
        callbacks=[*strategy.callbacks(), hpctf.keras.TrackingCallback()],
        shuffle=False,  # it is done already
        verbose=2 if strategy.is_chief else 0,
    )
    strategy.save(model, "outputs/model.keras")
    answers = np.argmax(model(held_images), axis=1)
    if strategy.is_chief:
        accuracy = float(np.mean(answers == held_labels))
        digits.report(accuracy, backend=strategy.backend, size=strategy.size, epochs=args.epochs)


if __name__ == "__main__":
    main()
