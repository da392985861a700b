"""One script for every backend: what differs between them, behind the same few names.

strategy = hpctf.strategy()  # first of all
with strategy.scope():
    model = build()
    model.compile(strategy.optimizer(tf.keras.optimizers.Adam(1e-3)), loss=...)
model.fit(
    strategy.data(examples, batch_size=32, shuffle=10_000, seed=20),
    steps_per_epoch=strategy.steps(number_of_examples, batch_size=32),
    callbacks=strategy.callbacks(),
    verbose=2 if strategy.is_chief else 0,
)
strategy.save(model, "outputs/model.keras")
"""

from functools import lru_cache
from importlib import import_module

from ..refusing import refusal
from ..task import current_task
from .single import Strategy

__all__ = ["Strategy", "strategy"]

_TOO_LATE = ("must be configured at program startup", "cannot be modified after being initialized")
"""What TensorFlow says where it has worked already: collective operations, and visible GPUs."""


@lru_cache(maxsize=None)
def strategy() -> Strategy:
    """Return how this process trains: by the run's backend, or alone outside of a run.

    Call it before TensorFlow does any work. The first call sets the backend up; later ones return
    the same object. In a worker or ps of ``--ps-mode script`` it serves, and never returns.

    Raises
    ------
    RuntimeError
        TensorFlow has worked already; TF_CONFIG is missing; or parameter servers have no chief.
    ImportError
        The backend is ``mpi``, and there is no Horovod.
    """
    task = current_task()
    try:
        begun: Strategy = import_module("." + task.backend, __name__).begin(task)
    except RuntimeError as error:
        said = str(error)
        if not any(words in said for words in _TOO_LATE):
            raise
        raise refusal(
            RuntimeError,
            "hpctf.strategy() came too late: TensorFlow had worked already. Call it right after "
            "the imports, before the first tensor, variable, dataset or model. TensorFlow says: "
            + said.splitlines()[0],
        ) from error
    return begun
