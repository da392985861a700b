"""Learning rates that grow with the number of ranks."""

from typing import Any, Callable, Optional, Union

import horovod.tensorflow as hvd
import keras


class LearningRateScheduleCallback(keras.callbacks.Callback):
    """Sets the learning rate to `initial_lr` times a multiplier between two epochs.

    Parameters
    ----------
    initial_lr
        The learning rate that the multiplier is of.
    multiplier
        A function of the epoch; or a constant, for ``multiplier ** (epoch - start_epoch)``.
    start_epoch, end_epoch
        The first epoch that is changed, and the first one that is not any more (None: all).
    staircase
        Whether the rate changes at the beginning of each epoch; else with each batch, by
        ``multiplier(epoch + batch / steps_per_epoch)``.
    momentum_correction
        Whether the velocity of SGD (or RMSprop) with momentum is scaled by the same factor as the
        rate, which is what Horovod's change of the momentum for one step comes to (Goyal et al.,
        https://arxiv.org/abs/1706.02677, section 2.1).
    steps_per_epoch
        Where the data set does not tell.
    """

    def __init__(
        self,
        initial_lr: float,
        multiplier: Union[float, Callable[[float], float]],
        start_epoch: int = 0,
        end_epoch: Optional[int] = None,
        staircase: bool = True,
        momentum_correction: bool = True,
        steps_per_epoch: Optional[int] = None,
    ) -> None:
        super().__init__()
        if initial_lr is None:
            raise ValueError("LearningRateScheduleCallback: initial_lr is needed.")
        self.initial_lr = initial_lr
        self.multiplier: Any = multiplier
        if not callable(multiplier):
            base = multiplier
            self.multiplier = lambda epoch: float(base ** (epoch - start_epoch))
        self.start_epoch = start_epoch
        self.end_epoch = end_epoch
        self.staircase = staircase
        self.momentum_correction = momentum_correction
        self.steps_per_epoch = steps_per_epoch
        self.current_epoch = 0

    def on_train_begin(self, logs: Any = None) -> None:
        """Find out how many steps an epoch has.

        Raises
        ------
        ValueError
            The data set does not tell.
        """
        self.steps_per_epoch = self.steps_per_epoch or self.params.get("steps")
        if not self.staircase and not self.steps_per_epoch:
            raise ValueError(
                f"{type(self).__name__}: how many steps an epoch has is not known. Pass "
                "steps_per_epoch."
            )

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Note the epoch."""
        self.current_epoch = epoch

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Set the rate of this batch."""
        ended = self.end_epoch is not None and self.current_epoch >= self.end_epoch
        if self.current_epoch < self.start_epoch or ended:
            return
        if not self.staircase:
            assert self.steps_per_epoch
            self._set(self.current_epoch + batch / self.steps_per_epoch)
        elif batch == 0:
            self._set(self.current_epoch)

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Log the rate as ``lr``."""
        if logs is not None:
            logs["lr"] = self._rate()

    def _rate(self) -> float:
        return float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate))

    def _set(self, epoch: float) -> None:
        optimizer = self.model.optimizer
        before, rate = self._rate(), self.initial_lr * self.multiplier(epoch)
        optimizer.learning_rate = rate
        if self.momentum_correction and before > 0 and rate != before:
            for velocity in _velocities(getattr(optimizer, "inner_optimizer", optimizer)):
                velocity.assign(velocity * (rate / before))


class LearningRateWarmupCallback(LearningRateScheduleCallback):
    """Raises the learning rate from ``initial_lr / size()`` to `initial_lr`, batch by batch.

    Parameters
    ----------
    initial_lr
        The rate to come to: that of one process times the number of ranks, usually.
    warmup_epochs
        How long it takes.
    momentum_correction, steps_per_epoch
        As for `LearningRateScheduleCallback`.
    verbose
        1 says when it is done.
    """

    def __init__(
        self,
        initial_lr: float,
        warmup_epochs: int = 5,
        momentum_correction: bool = True,
        steps_per_epoch: Optional[int] = None,
        verbose: int = 0,
    ) -> None:
        def multiplier(epoch: float) -> float:
            assert self.steps_per_epoch
            done = (epoch + 1.0 / self.steps_per_epoch) / warmup_epochs
            return float((done * (hvd.size() - 1) + 1.0) / hvd.size())

        super().__init__(
            initial_lr,
            multiplier,
            end_epoch=warmup_epochs,
            staircase=False,
            momentum_correction=momentum_correction,
            steps_per_epoch=steps_per_epoch,
        )
        self.verbose = verbose

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Log the rate, and say when the warm-up is done."""
        super().on_epoch_end(epoch, logs)
        if self.end_epoch == epoch + 1 and self.verbose > 0 and hvd.rank() == 0:
            print(f"\nEpoch {epoch + 1}: learning rate warmed up to {self._rate():g}.")


def _velocities(optimizer: Any) -> Any:
    """Return the variables that hold past steps, learning rate and all: those of SGD and RMSprop
    with momentum (Adam's hold gradients, and need no correction)."""
    if not getattr(optimizer, "momentum", 0) or not optimizer.built:
        return []
    held = getattr(optimizer, "momentums", None) or getattr(optimizer, "_momentums", None)
    return [velocity for velocity in held or [] if velocity is not None]
