"""Horovod's callbacks of learning rates with optimizers whose momentum is a plain number.

`LearningRateScheduleCallback` and `LearningRateWarmupCallback` change an optimizer's momentum for
one step (Goyal et al., https://arxiv.org/abs/1706.02677, section 2.1), by ``K.set_value``. Only the
legacy optimizers hold it in a variable; with all others it fails: ``'float' object has no attribute
'dtype'``. There the past step, which momentum multiplies, is scaled itself: it comes to the same.
"""

import sys
from functools import wraps
from types import ModuleType
from typing import Any, Iterator


def put_right(module: ModuleType) -> None:
    """Have the callbacks of learning rates work with every optimizer, as a module of Horovod's is
    imported; once."""
    callbacks = sys.modules.get("horovod._keras.callbacks")
    schedule: Any = getattr(callbacks, "LearningRateScheduleCallbackImpl", None)
    own = getattr(schedule, "_adjust_learning_rate", None)
    if own is None or hasattr(own, "__wrapped__"):
        return

    @wraps(own)
    def _adjust_learning_rate(self: Any, epoch: float) -> None:
        optimizer, corrects = self.model.optimizer, self.momentum_correction
        inner = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
        if not hasattr(inner, "momentum") or hasattr(inner.momentum, "assign"):
            own(self, epoch)
            return

        before = self.backend.get_value(optimizer.lr)
        self.momentum_correction = False
        try:
            own(self, epoch)
        finally:
            self.momentum_correction = corrects

        after = self.backend.get_value(optimizer.lr)
        if corrects and inner.momentum and before > 0 and after != before:
            for velocity in _velocities(inner):
                past = self.backend.get_value(velocity)
                self.backend.set_value(velocity, past * (after / before))

    schedule._adjust_learning_rate = _adjust_learning_rate


def _velocities(optimizer: Any) -> Iterator[Any]:
    """Yield the variables that hold the past step: those of SGD, and of RMSprop."""
    for name in ("momentums", "_momentums"):
        for velocity in getattr(optimizer, name, None) or ():
            if velocity is not None:
                yield velocity
