"""Horovod under Keras, right: ``import hpctf.keras as hvd``, not ``horovod.tensorflow.keras``.

Horovod 0.28.1 knows Keras up to version 2. Under Keras 3 (TensorFlow 2.16 and later) its own
module raises nothing and averages nothing. This one has the same names over the collectives of
``horovod.tensorflow``, which are right under both:

    import hpctf.keras as hvd

    hvd.init()
    model.compile(hvd.DistributedOptimizer(keras.optimizers.Adam(1e-3 * hvd.size())), loss="mse")
    model.fit(mine, callbacks=[hvd.callbacks.BroadcastGlobalVariablesCallback(0)])

`TrackingCallback` logs what ``fit`` measures to the run, and needs no Horovod.

Where ``tf.keras`` is tf-keras or Keras 2, each name is Horovod's own. Nothing is imported before
it is used.
"""

from importlib import import_module
from typing import List

__all__ = [
    "Average",
    "BroadcastGlobalVariablesCallback",
    "Compression",
    "DistributedOptimizer",
    "LearningRateScheduleCallback",
    "LearningRateWarmupCallback",
    "MetricAverageCallback",
    "Sum",
    "TrackingCallback",
    "allgather",
    "allreduce",
    "broadcast",
    "broadcast_object",
    "broadcast_variables",
    "callbacks",
    "init",
    "is_initialized",
    "load_model",
    "local_rank",
    "local_size",
    "rank",
    "shutdown",
    "size",
]

_OWN = {
    "DistributedOptimizer": ".optimizer",
    "load_model": ".optimizer",
    "allgather": ".collectives",
    "allreduce": ".collectives",
    "broadcast": ".collectives",
    "broadcast_variables": ".collectives",
}
"""Where the names lie that Horovod's Keras module has, too, and that differ under Keras 3."""

_OF_BOTH = ("broadcast_object", "broadcast_variables")
"""Names of ``horovod.tensorflow`` that Horovod's Keras module lacks."""


def __getattr__(name: str) -> object:
    if name.startswith("__"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name == "TrackingCallback":
        return import_module(".tracking", __name__).TrackingCallback
    if name == "callbacks" or name.endswith("Callback"):
        callbacks = import_module(".callbacks", __name__)
        return callbacks if name == "callbacks" else getattr(callbacks, name)
    if import_module(".version", __name__).is_keras_3():
        return getattr(import_module(_OWN.get(name, "horovod.tensorflow"), __name__), name)
    known = name in _OF_BOTH
    return getattr(import_module("horovod.tensorflow" + ("" if known else ".keras")), name)


def __dir__() -> List[str]:
    return sorted([*globals(), *__all__])
