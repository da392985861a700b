"""What the ranks tell each other: Horovod's collectives, for values and variables of Keras 3."""

from typing import Any, Dict, Iterable, List, Optional, Sequence

import horovod.tensorflow as hvd
import keras
import tensorflow as tf

from ..refusing import refusal


def allreduce(value: Any, **options: Any) -> Any:
    """Return `value` reduced over all ranks: by default the average (`horovod.allreduce`)."""
    return hvd.allreduce(tf.convert_to_tensor(value), **options)


def allgather(value: Any, **options: Any) -> Any:
    """Return the values of all ranks, one behind the other along the first axis."""
    return hvd.allgather(tf.convert_to_tensor(value), **options)


def broadcast(value: Any, root_rank: int = 0, **options: Any) -> Any:
    """Return the value of rank `root_rank`."""
    return hvd.broadcast(tf.convert_to_tensor(value), root_rank, **options)


def broadcast_variables(variables: Iterable[Any], root_rank: int = 0) -> None:
    """Set the variables to what they are on rank `root_rank`.

    Parameters
    ----------
    variables
        Keras's or TensorFlow's, equally many and in the same order on all ranks.
    root_rank
        The rank whose values all others take.

    Raises
    ------
    ValueError
        The ranks do not name equally many variables.
    """
    of_tensorflow = [plain(variable) for variable in variables]
    if hvd.size() == 1:
        return
    own = tf.constant([len(of_tensorflow)])
    counts = hvd.allgather(own, name="hpctf_variables").numpy().tolist()
    if len(set(counts)) > 1:
        raise refusal(
            ValueError,
            f"broadcast_variables: the ranks have different numbers of variables {counts}. Build "
            "the same model and optimizer on all ranks first.",
        )

    # The names are the places in the list: those of Keras count what a process has made, and a
    # model that one rank alone has made would leave all others waiting for a name.
    def take_over() -> None:
        for place, variable in enumerate(of_tensorflow):
            name = f"hpctf_broadcast_{place}"
            variable.assign(hvd.broadcast(variable, root_rank, name=name, ignore_name_scope=True))

    tf.function(take_over, autograph=False).get_concrete_function()()


def plain(variable: Any) -> Any:
    """Return TensorFlow's variable of one that may be Keras's."""
    return variable.value if isinstance(variable, keras.Variable) else variable


SMALL = 1 << 20
"""Bytes of all dense gradients up to which they travel together: what each exchange costs by itself
is then more than what is gained by exchanging some while others are computed (benchmarks)."""


class Exchange:
    """How the gradients of one optimizer are exchanged between the ranks.

    Parameters
    ----------
    op
        ``hvd.Average`` or ``hvd.Sum``.
    compression
        How dense gradients travel: ``hvd.Compression.none`` or ``hvd.Compression.fp16``.
    sparse_as_dense
        Whether IndexedSlices (of embeddings) are made dense first, rather than gathered.
    groups
        Into how many groups dense gradients are put, each of which is exchanged as one once all
        of its members are there; None exchanges each as soon as it is computed, but those of a
        small model (`SMALL`) together.
    number
        Which optimizer of the process this is: in the names by which ranks find each other.
    """

    def __init__(
        self, op: Any, compression: Any, sparse_as_dense: bool, groups: Optional[int], number: int
    ) -> None:
        self.op = op
        self.compression = compression
        self.sparse_as_dense = sparse_as_dense
        self.groups = groups
        self.name = f"hpctf_gradients_{number}"

    def reduce(self, gradients: Sequence[Any]) -> List[Any]:
        """Return the gradients averaged (or summed) over all ranks, in their order."""
        if hvd.size() == 1:
            return list(gradients)
        refuse_xla()
        found = list(gradients)
        dense = []
        for place, gradient in enumerate(found):
            if isinstance(gradient, tf.IndexedSlices) and self.sparse_as_dense:
                gradient = found[place] = tf.convert_to_tensor(gradient)
            if isinstance(gradient, tf.IndexedSlices):
                found[place] = self._gathered(gradient, place)
            elif gradient is not None:
                dense.append(place)
        for group in self._groups(dense, found):
            name = f"{self.name}_{group[0]}"
            together = self._reduced([found[place] for place in group], name)
            for number, place in enumerate(group):
                found[place] = together[number]
        return found

    def _groups(self, places: List[int], gradients: List[Any]) -> List[List[int]]:
        """Return the places of the dense gradients that travel together: of one type each."""
        # Run eagerly, each exchange waits for its end: one for all of them, then.
        count = 1 if tf.executing_eagerly() else self.groups
        if count is None and _bytes(gradients[place] for place in places) <= SMALL:
            count = 1
        if count is None:
            return [[place] for place in places]
        each = max(1, -(-len(places) // count))
        together: List[List[int]] = []
        for start in range(0, len(places), each):
            kinds: Dict[Any, List[int]] = {}
            for place in places[start : start + each]:
                kinds.setdefault(gradients[place].dtype, []).append(place)
            together += kinds.values()
        return together

    def _reduced(self, gradients: List[Any], name: str) -> List[Any]:
        options = {"op": self.op, "compression": self.compression}
        options.update(name=name, ignore_name_scope=True)
        if len(gradients) == 1:
            return [hvd.allreduce(gradients[0], **options)]
        return list(hvd.grouped_allreduce(gradients, **options))

    def _gathered(self, slices: Any, place: int) -> Any:
        """Return the slices of all ranks: what one process would have had of the whole batch.

        Not by Horovod's own allreduce of IndexedSlices: that names nothing, and its grouped one
        takes the shape of another gradient.
        """
        name = f"{self.name}_{place}"
        values = hvd.allgather(slices.values, name=name + "_values", ignore_name_scope=True)
        indices = hvd.allgather(slices.indices, name=name + "_indices", ignore_name_scope=True)
        if self.op == hvd.Average:
            values = values / tf.cast(hvd.size(), values.dtype)
        return tf.IndexedSlices(values, indices, slices.dense_shape)

    def all_agree(self, flag: Any) -> Any:
        """Return whether a boolean tensor is true on all ranks."""
        if hvd.size() == 1:
            return flag
        refuse_xla()
        name = self.name + "_agree"
        number = tf.cast(flag, tf.int32)
        return hvd.allreduce(number, op=hvd.Min, name=name, ignore_name_scope=True) > 0


def _bytes(gradients: Iterable[Any]) -> float:
    """Return the size of dense gradients; infinite if one of them has none yet."""
    sizes = [(gradient.shape.num_elements(), gradient.dtype.size) for gradient in gradients]
    return float("inf") if any(n is None for n, _ in sizes) else sum(n * each for n, each in sizes)


def refuse_xla() -> None:
    """Raise ValueError where XLA compiles the step: Horovod's collectives are none of its
    operations."""
    try:
        from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
    except ImportError:  # it moves: TensorFlow's own message comes then, at the first step
        return
    if GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph()):
        raise refusal(
            ValueError,
            "hpctf.keras: XLA cannot compile the exchange of gradients between ranks. Pass "
            "jit_compile=False to model.compile (or to tf.function); on GPUs Keras's 'auto' is "
            "True. BroadcastGlobalVariablesCallback does it for you.",
        )
