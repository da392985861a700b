"""A rank's share of the data: disjoint from all others, and as long as theirs.

    mine = hpctf.shard(tf.data.Dataset.from_tensor_slices(examples)).shuffle(10_000).batch(32)

As long: each step of Horovod and of MultiWorkerMirroredStrategy waits for all ranks, and a rank
that has one batch more than the others would wait for ever.
"""

from typing import Any, List, Tuple

from .task import Task, current_task


def shard(data: Any) -> Any:
    """Return this rank's share of the data.

    Of ``n`` examples and `size` ranks it is every `size`-th, from the rank's number on, and
    ``n // size`` of them: the rest (fewer than `size`) goes to none.

    Parameters
    ----------
    data
        A tf.data.Dataset, which must have the same examples in the same order on all ranks: shard
        first, then shuffle. Or arrays with the examples along their first axis: one, or a tuple,
        list or dict of them.

    Returns
    -------
    Any
        The same kind of thing. With the backend ``single`` and outside of a run: all of it. With
        ``collective`` a dataset tells TensorFlow not to shard it once more (AutoShardPolicy.OFF).

    Raises
    ------
    ValueError
        There are fewer examples than ranks; the dataset is shuffled without a seed, and so
        differently on each rank; arrays differ in length; or, with ``ps``, this is not where a
        worker's dataset is made.
    """
    task = current_task()
    if task.backend == "single":
        return data
    if hasattr(data, "element_spec"):
        return _dataset(data, task)
    if task.backend == "ps" and task.role != "worker":
        raise ValueError(
            "hpctf.shard: with parameter servers the data are made on each worker, and arrays "
            "cannot be. Shard tf.data.Dataset.from_tensor_slices(arrays) in the function that "
            "strategy.data, DatasetCreator or create_per_worker_dataset gets."
        )
    return _arrays(data, task)


def place(task: Task) -> Any:
    """Return the number of the share: an int, or with ``ps`` a tensor that each worker has its own
    value of."""
    if task.backend != "ps" or task.role == "worker":
        return task.rank
    import tensorflow as tf

    try:
        return tf.distribute.coordinator.experimental_get_current_worker_index()
    except RuntimeError:
        raise ValueError(
            "hpctf.shard: with parameter servers this must be called where a worker's dataset is "
            "made, in the function that strategy.data, tf.keras.utils.experimental.DatasetCreator "
            "or create_per_worker_dataset gets: the chief itself has no share."
        ) from None


def _dataset(dataset: Any, task: Task) -> Any:
    import tensorflow as tf

    _refuse_shuffled(dataset)
    rank = place(task)
    counted = dataset.cardinality()
    number = tf.get_static_value(counted)
    if number is not None and 0 <= number < task.size:
        raise ValueError(_too_few(int(number), task))
    if task.backend == "ps":  # workers wait for none: their shares need not be counted first
        mine = dataset.take(tf.where(counted < 0, counted, counted // task.size * task.size))
        return mine.shard(task.size, rank)
    if number == tf.data.INFINITE_CARDINALITY:
        mine = dataset.shard(task.size, rank)
    elif number is None or number == tf.data.UNKNOWN_CARDINALITY:
        mine = _one_of_each(dataset, task)
    else:
        mine = dataset.take(int(number) // task.size * task.size).shard(task.size, rank)
    if task.backend == "collective":
        options = tf.data.Options()
        options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
        mine = mine.with_options(options)
    return mine


def _one_of_each(dataset: Any, task: Task) -> Any:
    """Return one of every `size` examples; the last few, too few for all ranks, go to none."""
    import tensorflow as tf

    unpacked = type(dataset.element_spec) is tuple  # as functions of tf.data get their arguments

    def mine(*parts: Any) -> Any:
        window = parts if unpacked else parts[0]
        whole = window if isinstance(window, tf.data.Dataset) else tf.data.Dataset.zip(window)
        return whole.skip(task.rank).take(1)

    return dataset.window(task.size, drop_remainder=True).flat_map(mine)


def _refuse_shuffled(dataset: Any) -> None:
    """Raise where an order that no seed decides comes before the share is taken."""
    import tensorflow as tf

    for one in _with_inputs(dataset):
        seeds = [getattr(one, name, None) for name in ("_seed", "_seed2")]
        if type(one).__name__ != "_ShuffleDataset" or None in seeds:
            continue
        if [tf.get_static_value(seed) for seed in seeds] == [0, 0]:  # as TensorFlow says: no seed
            raise ValueError(
                "hpctf.shard: the dataset is shuffled without a seed, so each rank would take its "
                "share of another order, and the shares would overlap. Shard first, then shuffle."
            )


def _with_inputs(dataset: Any) -> List[Any]:
    """Return a dataset and all that it is made of."""
    found = [dataset]
    for one in found:  # it grows meanwhile
        found += getattr(one, "_inputs", list)()
    return found


def _arrays(arrays: Any, task: Task) -> Any:
    lengths = sorted({len(array) for _, array in _leaves(arrays, "data")})
    if len(lengths) != 1:
        found = ", ".join(f"{name} has {len(a)}" for name, a in _leaves(arrays, "data"))
        raise ValueError(f"hpctf.shard: the arrays differ in length: {found or 'none'}.")
    if lengths[0] < task.size:
        raise ValueError(_too_few(lengths[0], task))
    return _sliced(arrays, slice(task.rank, lengths[0] // task.size * task.size, task.size))


def _leaves(arrays: Any, name: str) -> List[Tuple[str, Any]]:
    """Return each array with the expression that leads to it."""
    if isinstance(arrays, dict):
        parts = list(arrays.items())
    elif isinstance(arrays, (tuple, list)):
        parts = list(enumerate(arrays))
    elif getattr(arrays, "shape", None):
        return [(name, arrays)]
    else:
        raise TypeError(
            f"hpctf.shard: {name} is a {type(arrays).__name__}. It takes a tf.data.Dataset, or "
            "arrays (NumPy's, for example) in a tuple, list or dict."
        )
    return [leaf for key, part in parts for leaf in _leaves(part, f"{name}[{key!r}]")]


def _sliced(arrays: Any, mine: slice) -> Any:
    if isinstance(arrays, dict):
        return {key: _sliced(part, mine) for key, part in arrays.items()}
    if isinstance(arrays, tuple):
        parts = [_sliced(part, mine) for part in arrays]
        return type(arrays)(*parts) if hasattr(arrays, "_fields") else tuple(parts)
    if isinstance(arrays, list):
        return [_sliced(part, mine) for part in arrays]
    return arrays[mine]


def _too_few(number: int, task: Task) -> str:
    return (
        f"hpctf.shard: {number} examples for {task.size} ranks, so some would have none. Take "
        "fewer ranks, or shard before batching: a dataset of batches counts batches."
    )
