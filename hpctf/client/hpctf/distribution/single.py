"""Training alone; and what a script may ask of any backend."""

import sys
from pathlib import Path
from typing import Any, Callable, Iterable, List, Optional

from ..refusing import refusal
from ..sharding import place, shard
from ..task import Task


def begin(task: Task) -> "Strategy":
    """Return a strategy over the GPUs of this process, if it has several."""
    import tensorflow as tf

    if len(tf.config.list_physical_devices("GPU")) > 1:
        return Strategy(task, tf.distribute.MirroredStrategy())
    return Strategy(task, tf.distribute.get_strategy())


class Strategy:
    """How a process takes part in the training; this one is alone.

    What is not here is tf.distribute.Strategy's: ``scope``, ``run``, ``reduce``,
    ``num_replicas_in_sync`` and the rest.

    Attributes
    ----------
    backend
        ``single``, ``mpi``, ``ps`` or ``collective``.
    rank
        This process's number among those that train; the coordinator of ``ps`` has 0.
    is_chief
        Whether this process is the one that prints and reports.
    tf_strategy
        The tf.distribute.Strategy itself, for functions that insist on one.
    """

    _splits_batches = True  # Keras does, among the replicas

    def __init__(self, task: Task, tf_strategy: Any) -> None:
        self._task = task
        self.backend = task.backend
        self.rank = task.rank
        self.is_chief = task.rank == 0
        self.tf_strategy = tf_strategy

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__") or name == "tf_strategy":  # a copy asks, before it has any
            raise AttributeError(name)
        return getattr(self.tf_strategy, name)

    @property
    def size(self) -> int:
        """How many replicas of the model train at once, each on batches of its own."""
        return int(self.tf_strategy.num_replicas_in_sync)

    def optimizer(self, optimizer: Any) -> Any:
        """Return the optimizer as ``model.compile`` must get it: with Horovod, one that averages
        gradients.

        Raises
        ------
        TypeError
            The optimizer is Keras 3's, and the backend is ``ps`` or ``collective``.
        """
        return optimizer

    def callbacks(self, callbacks: Iterable[Any] = ()) -> List[Any]:
        """Return the callbacks for ``fit``: with Horovod, behind those that make all ranks begin
        alike and that average the metrics which the others look at."""
        return list(callbacks)

    def data(
        self,
        make: Callable[[], Any],
        batch_size: int,
        *,
        shuffle: int = 0,
        seed: int = 0,
        prepare: Optional[Callable[[Any], Any]] = None,
    ) -> Any:
        """Return training data for ``fit``: this rank's share, in batches, without end.

        Parameters
        ----------
        make
            Returns all examples, one an element, as a tf.data.Dataset: the same in the same order
            wherever it is called. With ``ps`` the workers call it.
        batch_size
            Examples a step and replica: a step of all is over `size` times as many. An incomplete
            batch at a share's end is left out.
        shuffle
            Over how many examples of the share to shuffle, anew in each pass; 0 does not.
        seed
            The order on rank ``r`` follows from ``seed + r``.
        prepare
            Gets the share, shuffled, and returns what to batch: for decoding and augmenting, which
            each example needs on one rank alone.
        """

        def batches() -> Any:
            import tensorflow as tf

            share = shard(make())
            if shuffle:
                share = share.shuffle(shuffle, seed=seed + place(self._task))
            if prepare is not None:
                share = prepare(share)
            examples = batch_size * self.size if self._splits_batches else batch_size
            batched = share.batch(examples, drop_remainder=True)
            return batched.repeat().prefetch(tf.data.AUTOTUNE)

        return self._feed(batches)

    def _feed(self, batches: Callable[[], Any]) -> Any:
        """Return what ``fit`` takes."""
        return batches()

    def steps(self, examples: int, batch_size: int) -> int:
        """Return the steps of an epoch, so that it is one pass over the examples.

        Parameters
        ----------
        examples
            How many there are in all.
        batch_size
            Examples a step and replica, as `data` gets it.

        Raises
        ------
        ValueError
            There is not one batch for each replica.
        """
        steps = self._steps(examples, batch_size)
        if steps < 1:
            raise ValueError(
                f"strategy.steps: {examples} examples are less than a batch of {batch_size} for "
                f"each of {self.size}. Take a smaller batch, or fewer nodes."
            )
        return steps

    def _steps(self, examples: int, batch_size: int) -> int:
        ranks = self._task.size
        return examples // ranks // (batch_size * self.size // ranks)

    def save(self, model: Any, path: Any) -> None:
        """Save the model once (``model.save``). Every process must call it.

        With ``collective`` all workers take part in the saving, as TensorFlow demands, and all but
        one throw away what they have written.
        """
        if self.is_chief:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            model.save(str(path))


def refuse_keras_3(optimizer: Any, backend: str) -> None:
    """Raise TypeError where an optimizer of Keras 3 would meet a Strategy over many tasks."""
    packages = {base.__module__.partition(".")[0] for base in type(optimizer).__mro__}
    version = str(getattr(sys.modules.get("keras"), "__version__", "0"))
    if "keras" in packages and int(version.partition(".")[0]) >= 3:
        raise refusal(
            TypeError,
            f"strategy.optimizer: this {type(optimizer).__name__} is of Keras {version}, which "
            f"cannot train with the backend {backend}. Take it from tf.keras, which is tf-keras "
            "there unless TF_USE_LEGACY_KERAS says otherwise, and tf-keras must be in the "
            "environment.",
        )
