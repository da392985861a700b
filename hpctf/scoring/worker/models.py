"""The model: what it takes, and what it makes of a batch of rows."""

from typing import Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

import numpy as np

from .errors import Fatal, Wrong

_MOST_ROWS = 1024
_MOST_BYTES = 64 << 20
"""How large a batch is at most, unless its size is requested: rows, and bytes of the inputs."""


class Input(NamedTuple):
    """An input of a model: ``tail`` is the shape of a row, None where any size will do; text has
    the type ``object``."""

    name: str
    tail: Tuple[Optional[int], ...]
    dtype: Any


Run = Callable[[Dict[str, Any]], Dict[str, Any]]
"""Makes outputs of inputs, both by name."""


class Model:
    """A model; ``fixed`` is how many rows it takes at a time, if it takes no other number."""

    def __init__(self, inputs: List[Input], run: Run, fixed: Optional[int] = None) -> None:
        self.inputs = inputs
        self._run = run
        self._fixed = fixed

    def score(self, feeds: Dict[str, Any], rows: int, batch: Optional[int]) -> Dict[str, Any]:
        """Return the outputs of rows: arrays by name, with a row for each row.

        Parameters
        ----------
        batch
            Rows that the model is given at a time; None: as many as are of a sensible size.
        """
        row_bytes = sum(array.nbytes for array in feeds.values()) // max(rows, 1)
        size = batch or max(1, min(_MOST_ROWS, _MOST_BYTES // max(row_bytes, 1)))
        size = self._fixed or size
        found: Dict[str, List[Any]] = {}
        for first in range(0, rows, size):
            there = {name: array[first : first + size] for name, array in feeds.items()}
            count = min(size, rows - first)
            if self._fixed and count < size:
                there = {name: _padded(array, size) for name, array in there.items()}
                outputs = {name: value[:count] for name, value in self._run(there).items()}
            else:
                outputs = self._run(there)
            for name, value in outputs.items():
                array = np.asarray(value)
                if array.shape[:1] != (count,):
                    raise Wrong(
                        f"the model's output {name!r} has the shape {array.shape} for {count} "
                        "rows, not a row for each"
                    )
                found.setdefault(name, []).append(array)
        return {name: _joined(name, arrays) for name, arrays in found.items()}


def _padded(array: Any, size: int) -> Any:
    return np.concatenate([array, np.repeat(array[-1:], size - len(array), axis=0)])


def _joined(name: str, arrays: List[Any]) -> Any:
    if len({array.shape[1:] for array in arrays}) > 1:
        raise Wrong(f"the rows of the model's output {name!r} differ in their shapes")
    whole = np.concatenate(arrays)
    return whole.astype(str) if whole.dtype.kind in "OS" else whole


def load_model(about: Dict[str, Any]) -> Model:
    """Return the registered model that ``score.json`` names (`hpctf.models.record.KINDS`)."""
    if about["kind"] == "onnx":
        from .onnx_model import load_onnx

        return load_onnx(about["path"])
    from .tensorflow_model import load_tensorflow

    return load_tensorflow(about)


def fixed_rows(sizes: Sequence[Any]) -> Optional[int]:
    """Return how many rows a model takes at a time, given its inputs' first dimensions; None: any
    number."""
    known = set(sizes)
    one = known.pop() if len(known) == 1 else None
    return one if isinstance(one, int) and one > 0 else None


def tail_of(shape: Any, name: str) -> Tuple[Optional[int], ...]:
    """Return the shape of a row, given that of a batch."""
    if not shape:
        raise Fatal(f"The model's input {name!r} has no axis for rows.")
    return tuple(size if isinstance(size, int) and size > 0 else None for size in shape[1:])
