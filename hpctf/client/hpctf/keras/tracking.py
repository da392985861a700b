"""What ``fit`` and ``evaluate`` learn, logged to the run, with every Keras, Horovod or none."""

import sys
import time
from collections.abc import Mapping
from typing import Any, Dict, Optional

from ..run_context import Run

_FLUSH_S = 10.0
"""Seconds after which an epoch's end is made sure to be seen from other hosts, too: an NFS client
may keep what is written for half a minute."""


def _keras() -> Any:
    """Return the Keras that the script uses: tf-keras where that alone is loaded."""
    if "tf_keras" in sys.modules and "keras" not in sys.modules:
        return sys.modules["tf_keras"]
    try:
        import tensorflow as tf

        return tf.keras
    except ImportError:  # Keras 3 over another backend
        import keras

        return keras


_Callback: Any = _keras().callbacks.Callback


class TrackingCallback(_Callback):
    """Logs what Keras measures: ``model.fit(..., callbacks=[hpctf.keras.TrackingCallback()])``.

    After each epoch its metrics under Keras's names (``loss``, ``val_loss`` ...), with the epoch,
    counted from 0, as their step; ``learning_rate``; ``epoch_seconds`` and ``steps_per_second`` (of
    training alone, without validation); and how many epochs of all are done, for `hpctf watch`.
    Within an epoch ``batch/loss`` and its like, whose step is the number of the batch from the
    first epoch on. After ``evaluate`` ``test_loss`` and its like.

    Under Horovod each rank logs its own; put MetricAverageCallback before it for those of all.

    Parameters
    ----------
    run
        The run to log to, such as a child run; by default the process's own.
    batch_seconds
        Seconds between two batches whose metrics are logged; 0 is each one, None is none.
    batch_size
        Examples of a step. If given ``examples_per_second`` is logged, too.
    prefix
        What each name begins with.
    """

    def __init__(
        self,
        run: Optional[Run] = None,
        batch_seconds: Optional[float] = 1.0,
        batch_size: Optional[int] = None,
        prefix: str = "",
    ) -> None:
        super().__init__()
        self._supports_tf_logs = True  # tf-keras then leaves the metrics on the device
        self.async_safe = True  # and so does Keras 3
        self._run = run or Run.get_context()
        self._batch_seconds = batch_seconds
        self._batch_size = batch_size
        self._prefix = prefix
        self._training = False
        self._epoch = 0
        self._batches_before = 0
        self._batches = 0
        self._logged_at = self._flushed_at = 0.0
        self._began = 0.0
        self._trained_until = 0.0

    def on_train_begin(self, logs: Optional[Dict[str, Any]] = None) -> None:
        """Note that what follows is training."""
        self._training = True
        self._batches_before = self._batches = 0

    def on_train_end(self, logs: Optional[Dict[str, Any]] = None) -> None:
        """Note that training is over, and put the journal on the disk."""
        self._training = False
        self._run.flush()

    def on_epoch_begin(self, epoch: int, logs: Optional[Dict[str, Any]] = None) -> None:
        """Start the epoch's clock; a fit that begins with a later epoch goes on counting there."""
        steps = (self.params or {}).get("steps") or 0
        self._batches_before = max(self._batches_before + self._batches, epoch * steps)
        self._epoch, self._batches = epoch, 0
        self._began = self._trained_until = time.perf_counter()
        self._say_progress(epoch)

    def on_train_batch_end(self, batch: int, logs: Optional[Dict[str, Any]] = None) -> None:
        """Log a batch's metrics if it is time to."""
        self._batches = max(self._batches, batch + 1)
        self._trained_until = now = time.perf_counter()
        if self._batch_seconds is None or now - self._logged_at < self._batch_seconds:
            return
        self._logged_at = now
        step = self._batches_before + batch
        if isinstance(logs, Mapping):  # parameter servers promise them for later
            for name, value in logs.items():
                self._log("batch/" + name, value, step)
        self._say_progress(self._epoch, batch + 1)

    def on_epoch_end(self, epoch: int, logs: Optional[Dict[str, Any]] = None) -> None:
        """Log the epoch's metrics."""
        now = time.perf_counter()
        for name, value in (logs or {}).items():
            if name not in ("learning_rate", "lr"):  # some callbacks put it there
                self._log(name, value, epoch)
        rate = self._learning_rate()
        if rate is not None:
            self._log("learning_rate", rate, epoch)
        self._log("epoch_seconds", now - self._began, epoch)
        trained = self._trained_until - self._began
        if self._batches and trained > 0:
            self._log("steps_per_second", self._batches / trained, epoch)
            if self._batch_size is not None:
                speed = self._batches * self._batch_size / trained
                self._log("examples_per_second", speed, epoch)
        self._say_progress(epoch + 1)
        if now - self._flushed_at > _FLUSH_S:
            self._flushed_at = now
            self._run.flush()

    def on_test_end(self, logs: Optional[Dict[str, Any]] = None) -> None:
        """Log what ``evaluate`` has found; the validation of a fit is in its epoch's metrics."""
        if not self._training:
            for name, value in (logs or {}).items():
                self._log("test_" + name, value)

    def _log(self, name: str, value: Any, step: Optional[int] = None) -> None:
        self._run.log(self._prefix + name, value, step)

    def _say_progress(self, epoch: int, step: int = 0) -> None:
        params = self.params or {}
        done = {"epoch": epoch, "epochs": params.get("epochs")}
        if step:
            done.update(step=step, steps=params.get("steps"))
        self._run.progress(**{name: count for name, count in done.items() if count is not None})

    def _learning_rate(self) -> Any:
        """Return the optimizer's learning rate now, or None if it has none."""
        optimizer: Any = getattr(self.model, "optimizer", None)
        optimizer = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
        rate = getattr(optimizer, "learning_rate", None)
        if callable(rate) and not hasattr(rate, "numpy"):  # tf-keras gives the schedule itself
            rate = rate(optimizer.iterations)
        return rate
