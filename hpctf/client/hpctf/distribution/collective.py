"""Backend ``collective``: MultiWorkerMirroredStrategy, whose workers hold the same variables."""

import os
import tempfile
from typing import Any, Callable

from ..task import Task
from .single import Strategy, refuse_keras_3


def begin(task: Task) -> "MultiWorker":
    """Meet the other workers."""
    import tensorflow as tf

    return MultiWorker(task, tf.distribute.MultiWorkerMirroredStrategy())


class MultiWorker(Strategy):
    """How a worker takes part in a training with MultiWorkerMirroredStrategy."""

    _splits_batches = False

    def optimizer(self, optimizer: Any) -> Any:
        """Return the optimizer: the strategy itself averages gradients."""
        refuse_keras_3(optimizer, self.backend)
        return optimizer

    def _feed(self, batches: Callable[[], Any]) -> Any:
        # From a function, TensorFlow takes the batches as they are, one a replica; a dataset it
        # would shard, and take its batches for those of all workers.
        return self.tf_strategy.distribute_datasets_from_function(lambda context: batches())

    def save(self, model: Any, path: Any) -> None:
        """Save the model; only the chief's file stays."""
        if self.is_chief:
            super().save(model, path)
            return
        with tempfile.TemporaryDirectory() as folder:
            model.save(os.path.join(folder, os.path.basename(str(path))))
