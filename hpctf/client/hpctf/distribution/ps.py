"""Backend ``ps``: the chief hands out steps, workers compute them, the ps keep the variables."""

import os
from typing import Any, Callable

from ..refusing import refusal
from ..task import Task
from .single import Strategy, refuse_keras_3


def begin(task: Task) -> "ParameterServers":
    """Coordinate, on the chief, which there must be; a worker or ps serves, and never comes
    back."""
    import tensorflow as tf

    resolver = tf.distribute.cluster_resolver.TFConfigClusterResolver()
    if "chief" not in resolver.cluster_spec().jobs:
        raise refusal(
            RuntimeError,
            "hpctf.strategy(): TF_CONFIG names no chief, so nobody would hand out the steps. Leave "
            "out --no-chief (add_chief=False): TensorFlow 2 wants one.",
        )
    if task.role in ("worker", "ps"):
        _serve(resolver)
    return ParameterServers(task, tf.distribute.ParameterServerStrategy(resolver))


def _serve(resolver: Any) -> None:
    """Serve until the run ends."""
    import tensorflow as tf

    # A lost chief must be noticed rather than waited for, says TensorFlow's guide.
    os.environ["GRPC_FAIL_FAST"] = "use_caller"
    config = tf.compat.v1.ConfigProto()
    workers = resolver.cluster_spec().num_tasks("worker")
    if (os.cpu_count() or 1) < workers + 1:  # else a small node may have no thread left: the guide
        config.inter_op_parallelism_threads = workers + 1
    server = tf.distribute.Server(
        resolver.cluster_spec(),
        job_name=resolver.task_type,
        task_index=resolver.task_id,
        config=config,
        protocol="grpc",
    )
    server.join()


class ParameterServers(Strategy):
    """How the chief takes part in a training with parameter servers.

    Updates are asynchronous: a step is one worker's, over one batch.
    """

    _splits_batches = False

    @property
    def size(self) -> int:
        """How many workers there are."""
        return self._task.size

    def optimizer(self, optimizer: Any) -> Any:
        """Return the optimizer: its variables lie on the ps."""
        refuse_keras_3(optimizer, self.backend)
        return optimizer

    def _feed(self, batches: Callable[[], Any]) -> Any:
        import tensorflow as tf

        # Each worker makes its dataset itself. Its number is a tensor there: no Python to convert.
        make = tf.autograph.experimental.do_not_convert(lambda context: batches())
        return tf.keras.utils.experimental.DatasetCreator(make)

    def _steps(self, examples: int, batch_size: int) -> int:
        return examples // batch_size
