"""One process, with Keras: `model.fit`, and the model saved to outputs/model.keras."""

from pathlib import Path

import digits
import tensorflow as tf

import hpctf


def build(learning_rate: float) -> tf.keras.Model:
    """Return the compiled network."""
    model = tf.keras.Sequential(
        [
            tf.keras.Input([digits.PIXELS]),
            tf.keras.layers.Dense(64, activation="relu"),
            tf.keras.layers.Dense(digits.CLASSES, activation="softmax"),
        ]
    )
    model.compile(
        optimizer=tf.keras.optimizers.Adam(learning_rate),
        loss="sparse_categorical_crossentropy",
        metrics=["accuracy"],
    )
    return model


def main() -> None:
    """Train, save and report."""
    args = digits.arguments(__doc__, epochs=12, learning_rate=0.003)
    tf.keras.utils.set_random_seed(digits.SEED)
    train, held_out = digits.load()
    model = build(args.learning_rate)
    # verbose=2 is one line an epoch: progress bars fill a log file with control characters.
    tracking = hpctf.keras.TrackingCallback(batch_size=args.batch_size)
    model.fit(
        *train, batch_size=args.batch_size, epochs=args.epochs, verbose=2, callbacks=[tracking]
    )
    loss, accuracy = model.evaluate(*held_out, verbose=0)
    Path("outputs").mkdir(exist_ok=True)
    model.save("outputs/model.keras")
    digits.report(accuracy, loss=loss, epochs=args.epochs)


if __name__ == "__main__":
    main()
