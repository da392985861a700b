"""Metrics of all ranks rather than one."""

from numbers import Number
from typing import Any, Dict, Optional

import horovod.tensorflow as hvd
import keras
import tensorflow as tf


class MetricAverageCallback(keras.callbacks.Callback):
    """Averages the metrics of an epoch over all ranks, in place, for the callbacks after it.

    Put it before those that look at metrics (ReduceLROnPlateau, EarlyStopping, ModelCheckpoint,
    TensorBoard): ranks that decide by metrics of their own decide differently. `device` is not
    used: the numbers are few.
    """

    def __init__(self, device: str = "") -> None:
        super().__init__()

    def on_epoch_end(self, epoch: int, logs: Optional[Dict[str, Any]] = None) -> None:
        """Replace each number in `logs` by its average over all ranks.

        Raises
        ------
        ValueError
            The ranks have not the same metrics.
        """
        names = sorted(name for name, value in (logs or {}).items() if _is_number(value))
        if hvd.size() == 1 or logs is None:
            return
        every = hvd.allgather_object(names, name="hpctf_metrics")
        if any(other != names for other in every):
            raise ValueError(
                f"MetricAverageCallback: the ranks have different metrics {every}. Give all ranks "
                "the same metrics and validation data."
            )
        if not names:
            return
        own = tf.constant([float(logs[name]) for name in names], tf.float64)
        averaged = hvd.allreduce(own, op=hvd.Average, name="hpctf_metric_values").numpy()
        logs.update((name, float(averaged[place])) for place, name in enumerate(names))


def _is_number(value: Any) -> bool:
    return isinstance(value, Number) or getattr(value, "shape", None) == ()
