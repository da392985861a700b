"""Backend ``mpi``: each rank has a model of its own, and they average their gradients."""

from importlib import import_module
from typing import Any, Iterable, List

from ..refusing import refusal
from ..task import Task
from .single import Strategy


def begin(task: Task) -> "Horovod":
    """Start Horovod, and take one GPU, if there are any."""
    import tensorflow as tf

    try:
        import horovod.tensorflow as hvd
    except ImportError as error:
        raise refusal(
            ImportError,
            "hpctf.strategy(): with the backend mpi the ranks train through Horovod, and this "
            f"Python cannot import it ({error}). An environment that hpctf builds has it: leave "
            "out --python (docs/environments.md).",
        ) from error
    hvd.init()
    gpus = tf.config.list_physical_devices("GPU")
    if gpus:  # a rank may see all of its node, or its own alone
        own = gpus[hvd.local_rank() % len(gpus)]
        tf.config.set_visible_devices(own, "GPU")
        tf.config.experimental.set_memory_growth(own, True)
    return Horovod(task, tf.distribute.get_strategy())


class Horovod(Strategy):
    """How a rank takes part in a training with Horovod."""

    _splits_batches = False

    @property
    def size(self) -> int:
        """How many ranks there are."""
        return self._task.size

    def optimizer(self, optimizer: Any) -> Any:
        """Return the optimizer as one that averages gradients over all ranks."""
        return import_module("...keras", __name__).DistributedOptimizer(optimizer)

    def callbacks(self, callbacks: Iterable[Any] = ()) -> List[Any]:
        """Return the callbacks behind Horovod's."""
        hvd = import_module("...keras.callbacks", __name__)
        begin_alike = hvd.BroadcastGlobalVariablesCallback(0)
        return [begin_alike, hvd.MetricAverageCallback(), *callbacks]
