"""An optimizer of Keras 3 that averages its gradients over all ranks."""

from itertools import count
from typing import Any, List, Optional

import horovod.tensorflow as hvd
import keras

from ..refusing import refusal
from .collectives import Exchange

_numbers = count()


def DistributedOptimizer(
    optimizer: Any,
    *,
    op: Any = hvd.Average,
    compression: Any = hvd.Compression.none,
    sparse_as_dense: bool = False,
    groups: Optional[int] = None,
    backward_passes_per_step: int = 1,
    average_aggregated_gradients: bool = False,
) -> Any:
    """Make an optimizer average its gradients over all ranks, and return it.

    It is the very optimizer that is passed, with all its settings, its schedule and its state. It
    works in ``model.fit`` and in loops of your own (``apply`` and ``apply_gradients``). Clipping,
    weight decay and EMA see the averaged gradients; with ``gradient_accumulation_steps`` ranks
    exchange them once in as many steps; loss scaling (mixed_float16) skips a step on all ranks or
    on none. Models are saved with the plain optimizer: to load them takes neither Horovod nor
    hpctf.

    Parameters
    ----------
    optimizer
        A ``keras.optimizers.Optimizer``, or what ``keras.optimizers.get`` makes one of.
    op
        ``hvd.Average``, or ``hvd.Sum``.
    compression
        ``hvd.Compression.fp16`` halves what travels.
    sparse_as_dense
        Exchange the gradients of embeddings as dense tensors.
    groups
        Exchange dense gradients in that many groups; by default each as soon as it is computed,
        and those of a small model (1 MiB) together.
    backward_passes_per_step, average_aggregated_gradients
        Horovod's name for accumulation: N passes, averaged, are Keras's own
        ``gradient_accumulation_steps=N``, which is set then.

    Raises
    ------
    RuntimeError
        ``init()`` has not been called.
    ValueError
        Another `op`, or an accumulation that Keras does not have.
    """
    if not hvd.is_initialized():
        raise refusal(RuntimeError, "DistributedOptimizer: call init() first (hvd.init()).")
    if op not in (hvd.Average, hvd.Sum):
        raise refusal(ValueError, f"DistributedOptimizer: op is {op!r}, not Average or Sum.")
    optimizer = keras.optimizers.get(optimizer)
    inner = getattr(optimizer, "inner_optimizer", optimizer)  # of a LossScaleOptimizer
    if backward_passes_per_step > 1:
        _accumulate(inner, backward_passes_per_step, average_aggregated_gradients)
    exchange = Exchange(op, compression, sparse_as_dense, groups, next(_numbers))
    _become(inner, exchange)
    _agree_on_finite_gradients()
    return optimizer


def load_model(filepath: Any, custom_objects: Any = None, **options: Any) -> Any:
    """Load a saved model, its optimizer one that averages gradients (``DistributedOptimizer``).

    Parameters
    ----------
    filepath, custom_objects
        As for ``keras.models.load_model``; every rank reads the file.
    **options
        Of ``keras.models.load_model`` (``compile``, ``safe_mode``) or of `DistributedOptimizer`.
    """
    own = {name: options.pop(name) for name in ("compile", "safe_mode") if name in options}
    model = keras.models.load_model(filepath, custom_objects=custom_objects, **own)
    if getattr(model, "optimizer", None) is not None:
        DistributedOptimizer(model.optimizer, **options)
    return model


def averages(optimizer: Any) -> bool:
    """Whether an optimizer, or the ones within it, average their gradients over all ranks."""
    within: List[Any] = getattr(optimizer, "optimizers", [])  # of a MultiOptimizer
    if within:
        return all(averages(one) for one in within)
    return isinstance(getattr(optimizer, "inner_optimizer", optimizer), Averaging)


class Averaging:
    """What a class of optimizers is mixed with to average gradients."""

    _exchange: Exchange

    def apply(self, grads: Any, trainable_variables: Any = None) -> Any:
        """Apply gradients (`keras.optimizers.Optimizer.apply`), once they are averaged."""
        grads = list(grads)
        variables = trainable_variables
        if variables is not None:
            variables = list(variables)
        known: Any = variables or getattr(self, "_trainable_variables", [])
        if any(getattr(v, "overwrite_with_gradient", False) for v in known):
            raise refusal(
                NotImplementedError,
                "hpctf.keras: float8 training keeps scales of its own on each rank, which cannot "
                "be averaged. Use mixed_bfloat16 or mixed_float16.",
            )
        object.__setattr__(self, "_exchanged", False)
        done = super().apply(grads, variables)  # type: ignore[misc]
        # Accumulated gradients wait for their turn; all others must have been exchanged by now.
        waits = getattr(self, "gradient_accumulation_steps", None)
        if grads and not waits and not self._exchanged:  # type: ignore[attr-defined]
            raise refusal(
                RuntimeError,
                f"hpctf.keras: {type(self).__name__} applies gradients in a way of its own, and "
                "they were not averaged over the ranks. Wrap the optimizers within it instead, or "
                "one of Keras's own classes.",
            )
        return done

    def _clip_gradients(self, grads: Any) -> Any:
        # Where Keras has the gradients of one update together: accumulated, unscaled, and neither
        # clipped nor applied yet (keras/src/optimizers/base_optimizer.py).
        object.__setattr__(self, "_exchanged", True)
        return super()._clip_gradients(self._exchange.reduce(grads))  # type: ignore[misc]


def _become(optimizer: Any, exchange: Exchange) -> None:
    """Change an optimizer's class to one that averages, whatever it holds."""
    plain = type(optimizer)
    if isinstance(optimizer, Averaging):
        plain = plain.__mro__[2]
    members = {
        "__module__": plain.__module__,
        "__qualname__": plain.__qualname__,
        "__doc__": plain.__doc__,
        # Keras writes down `optimizer.__class__` when it saves a model: the plain one.
        "__class__": property(lambda self: plain),
        "_exchange": exchange,
    }
    averaging = type(plain.__name__, (Averaging, plain), members)
    # Not by assignment: the line above would be in its way the second time.
    object.__dict__["__class__"].__set__(optimizer, averaging)


def _accumulate(optimizer: Any, passes: int, averaged: bool) -> None:
    if not averaged:
        raise refusal(
            ValueError,
            f"DistributedOptimizer: backward_passes_per_step={passes} would sum the gradients of "
            f"{passes} passes, which Keras 3 does not. Say average_aggregated_gradients=True as "
            f"well, or make the optimizer with gradient_accumulation_steps={passes}.",
        )
    if optimizer.built or optimizer.gradient_accumulation_steps:
        raise refusal(
            ValueError,
            f"DistributedOptimizer: backward_passes_per_step={passes} comes too late: the "
            "optimizer has been built, or accumulates already. Make it with "
            f"gradient_accumulation_steps={passes} and leave backward_passes_per_step out.",
        )
    optimizer.gradient_accumulation_steps = passes


def _agree_on_finite_gradients() -> None:
    """Make loss scaling skip a step on all ranks or on none.

    ``model.compile`` wraps the optimizer of a mixed_float16 model by itself, and the wrapper looks
    at a rank's own gradients: a rank that skips alone would leave the others waiting for ever. So
    it is the wrapper's class that must ask, and nothing changes for optimizers that do not average.
    """
    scaling = keras.optimizers.LossScaleOptimizer
    alone = scaling.check_finite
    if getattr(alone, "asks_all_ranks", False):
        return

    def check_finite(self: Any, grads: Any) -> Any:
        finite = alone(self, grads)
        inner = self.inner_optimizer
        return inner._exchange.all_agree(finite) if isinstance(inner, Averaging) else finite

    check_finite.asks_all_ranks = True  # type: ignore[attr-defined]
    scaling.check_finite = check_finite
