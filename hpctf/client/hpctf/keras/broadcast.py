"""All ranks begin alike."""

from typing import Any, Iterable, List, Optional

import horovod.tensorflow as hvd
import keras

from ..refusing import refusal
from .collectives import broadcast_variables, plain
from .optimizer import averages


class BroadcastGlobalVariablesCallback(keras.callbacks.Callback):
    """Gives all ranks the weights and the optimizer's state of one, before the first step of a fit.

    It is done after all other callbacks have begun, so it does not matter which of them restores a
    checkpoint, and on which rank. A model that does not know its input's shape has no weights by
    then: it is done after the first step, as Horovod does it. Seeds stay each rank's own: dropout
    differs between the ranks.

    It also switches XLA off for the model's steps, and refuses an optimizer that would not average
    gradients: what a model was loaded with, for example.

    Parameters
    ----------
    root_rank
        The rank whose values all others take.
    device
        Not used: Keras 3 places its variables.
    local_variables
        Variables that each rank keeps as they are.
    """

    def __init__(
        self, root_rank: int = 0, device: str = "", local_variables: Optional[Iterable[Any]] = None
    ) -> None:
        super().__init__()
        self.root_rank = root_rank
        self.broadcast_done = False
        self._local = {id(plain(variable)) for variable in local_variables or ()}

    def set_model(self, model: Any) -> None:
        """Take the model, before Keras makes its training step."""
        super().set_model(model)
        if hvd.size() > 1 and model.jit_compile:
            model.jit_compile = False
            model.train_function = None
            if hvd.rank() == self.root_rank:
                print(
                    "hpctf.keras: jit_compile=False, XLA cannot compile the exchange of gradients."
                )

    def on_train_begin(self, logs: Any = None) -> None:
        """Look at the optimizer.

        Raises
        ------
        ValueError
            It does not average gradients, and the model's steps are Keras's own.
        """
        self.broadcast_done = False
        optimizer = self.model.optimizer
        own_steps = type(self.model).train_step is not keras.Model.train_step
        if hvd.size() == 1 or optimizer is None or averages(optimizer) or own_steps:
            return
        raise refusal(
            ValueError,
            f"The model's optimizer is a plain {type(optimizer).__name__}: {hvd.size()} ranks "
            f"would train {hvd.size()} different models. Compile it with "
            "hvd.DistributedOptimizer(...); a loaded model by "
            "hvd.DistributedOptimizer(model.optimizer), or load it with hvd.load_model.",
        )

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Broadcast before the first step, when all callbacks have restored what they restore."""
        if not self.broadcast_done and _is_built(self.model):
            self._broadcast()

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Broadcast after the first step what that step has built."""
        if not self.broadcast_done:
            self._broadcast()

    def _broadcast(self) -> None:
        variables = list(self.model.weights)
        optimizer = self.model.optimizer
        if optimizer is not None:
            if not optimizer.built:
                optimizer.build(self.model.trainable_variables)
            variables += optimizer.variables
        shared = [v for v in variables if id(plain(v)) not in self._local]
        broadcast_variables(shared, self.root_rank)
        self.broadcast_done = True


def _is_built(model: Any) -> bool:
    layers: List[Any] = list(getattr(model, "_flatten_layers", list)())
    return bool(model.built) and all(layer.built for layer in layers)
