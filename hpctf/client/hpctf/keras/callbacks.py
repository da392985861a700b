"""Callbacks of Horovod's names, for whichever Keras ``tf.keras`` is."""

from importlib import import_module
from typing import List

_HOMES = {
    "BroadcastGlobalVariablesCallback": ".broadcast",
    "LearningRateScheduleCallback": ".learning_rate",
    "LearningRateWarmupCallback": ".learning_rate",
    "MetricAverageCallback": ".metrics",
}


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    own = import_module(".version", __package__).is_keras_3()
    home = _HOMES[name] if own else "horovod.tensorflow.keras.callbacks"
    return getattr(import_module(home, __package__), name)


def __dir__() -> List[str]:
    return sorted([*globals(), *_HOMES])
