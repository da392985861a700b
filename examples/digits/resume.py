"""A training that is interrupted and goes on: Keras' BackupAndRestore, and a warning heeded.

`hpctf submit --max-restarts 3 ...` sends SIGTERM before the time limit, and when the job is
pre-empted or requeued. The epoch is then finished and saved; the job starts again, and the next
epoch is the one that follows: none is lost, none is done twice.
"""

import os
import signal
import sys
import time
from pathlib import Path

import digits
import tensorflow as tf
from single import build

import hpctf


class LeaveWhenWarned(tf.keras.callbacks.Callback):
    """Ends the training after the epoch in which SIGTERM came.

    It stands behind BackupAndRestore, which has saved the epoch by then. `stop_training` would not
    do: BackupAndRestore takes that for the end and removes its backup.
    """

    def __init__(self, pause: float) -> None:
        super().__init__()
        self.pause = pause
        self.warned = False
        signal.signal(signal.SIGTERM, self.warn)

    def warn(self, *_: object) -> None:
        """Note that there is not much time left."""
        self.warned = True

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        """Put the epoch on record, and leave if it was the last for now."""
        with Path("outputs/epochs.txt").open("a") as record:
            record.write(f"{epoch} {os.environ.get('HPCTF_RESTART_COUNT', '0')}\n")
        if self.warned:
            sys.exit(f"warned: leaving after epoch {epoch}")
        time.sleep(self.pause)


def main() -> None:
    """Train from wherever an earlier start has come to, save and report."""
    pause = float(os.environ.get("DIGITS_PAUSE", "0"))  # seconds an epoch, to make it last
    args = digits.arguments(__doc__, epochs=12, learning_rate=0.003)
    tf.keras.utils.set_random_seed(digits.SEED)
    train, held_out = digits.load()
    model = build(args.learning_rate)
    Path("outputs").mkdir(exist_ok=True)
    backup = os.environ.get("HPCTF_CHECKPOINT_DIR", "outputs/checkpoints") + "/backup"
    model.fit(
        *train,
        batch_size=args.batch_size,
        epochs=args.epochs,
        verbose=2,
        callbacks=[
            tf.keras.callbacks.BackupAndRestore(backup),
            hpctf.keras.TrackingCallback(batch_size=args.batch_size),
            LeaveWhenWarned(pause),
        ],
    )
    loss, accuracy = model.evaluate(*held_out, verbose=0)
    model.save("outputs/model.keras")
    digits.report(accuracy, loss=loss, epochs=args.epochs)


if __name__ == "__main__":
    main()
