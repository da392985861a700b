"""What a model is asked, and what it answers, for batches of 1, 7 and 64; part of ``save.py``."""

import traceback
from typing import Any, Dict, List, Sequence

import numpy as np
import tensorflow as tf
from hpctf_answers import Refused
from hpctf_loading import Loaded, answers, names_of_answers

BATCHES = (1, 7, 64)
_SIZES = (7, 32, 64, 224)
"""What a dimension of unknown size is taken for: the first with which the model runs."""
_WORDS = ("a", "b", "c", "unknown")


def reference_of(model: Loaded) -> Dict[str, Any]:
    """Return inputs, and what the model answers to them, for each size of batch.

    It names the outputs that have no names yet, and sets the inputs' first dimension free where it
    is a batch.
    """
    for spec in model.inputs:
        if spec.shape.rank is None:
            raise Refused(f"It does not say how many dimensions its input {spec.name!r} has.")
    fixed = {spec.shape[0] for spec in model.inputs if spec.shape.rank}
    batches = BATCHES if None in fixed or not fixed else tuple(fixed)[:1]
    size = _size_that_fits(model, batches[0])
    found = {}
    for batch in batches:
        inputs = sample(model, batch, size)
        outputs = answers(model, inputs)
        if not _alike(outputs, answers(model, inputs)):
            raise Refused("It answers the same question twice in different ways: it draws numbers.")
        model.outputs = names_of_answers(model, len(outputs))
        for spec, value in zip(model.inputs, inputs):
            found["in:%d:%s" % (batch, spec.name)] = value
        for name, value in zip(model.outputs, outputs):
            found["out:%d:%s" % (batch, name)] = value
    return found


def exact_of(model: Loaded, reference: Dict[str, Any]) -> Dict[str, Any]:
    """Return what a model of half precision would answer in single precision, to the same inputs;
    nothing if that cannot be had."""
    if model.in_single is None:
        return {}
    inputs = [tf.TensorSpec(one.shape, _single(one.dtype), one.name) for one in model.inputs]
    found = {}
    try:
        twin = Loaded(model.tracked, model.in_single(), inputs, model.outputs)
        for batch in {int(key.split(":")[1]) for key in reference}:
            given = [reference["in:%d:%s" % (batch, spec.name)] for spec in inputs]
            for name, value in zip(model.outputs, answers(twin, given)):
                found["exact:%d:%s" % (batch, name)] = value
    except Exception:  # of Keras', or of layers that cannot be made again
        traceback.print_exc()
        return {}
    return found


def _single(dtype: Any) -> Any:
    kind = tf.as_dtype(dtype)
    return tf.float32 if kind in (tf.float16, tf.bfloat16) else kind


def _alike(one: Sequence[Any], other: Sequence[Any]) -> bool:
    """Return whether answers are the same, but for sums in another order."""
    return all(
        np.allclose(a, b, rtol=0.01, atol=0.01, equal_nan=True)
        if a.dtype.kind == "f"
        else np.array_equal(a, b)
        for a, b in zip(one, other)
    )


def _size_that_fits(model: Loaded, batch: int) -> int:
    error = None
    for size in _SIZES:
        try:
            answers(model, sample(model, batch, size))
            return size
        except (ValueError, tf.errors.InvalidArgumentError) as caught:
            error = caught
            if all(None not in spec.shape[1:] for spec in model.inputs):
                break
    assert error is not None
    raise error


def sample(model: Loaded, batch: int, size: int) -> List[Any]:
    """Return inputs as they may come, always the same: words that the model knows, numbers of
    rows that it has, and where it masks, sequences of several lengths."""
    draw = np.random.RandomState(batch)
    kinds = {type(layer).__name__: layer for layer in model.layers}
    found = []
    for spec in model.inputs:
        sizes = [batch, *spec.shape[1:]] if spec.shape.rank else []
        shape = [size if one is None else one for one in sizes]
        kind = tf.as_dtype(spec.dtype)
        if kind == tf.string:
            value = draw.choice(np.array(_vocabulary(model)), shape)
        elif kind == tf.bool:
            value = draw.rand(*shape) < 0.5
        elif kind.is_integer:
            value = draw.randint(0, _bound(model, kind), shape).astype(kind.as_numpy_dtype)
        else:
            value = draw.randn(*shape).astype(kind.as_numpy_dtype)
        masked = getattr(kinds.get("Masking"), "mask_value", None)
        if any(getattr(layer, "mask_zero", False) for layer in model.layers) and kind.is_integer:
            masked = 0
        if masked is not None and len(shape) > 1 and kind != tf.string:
            for row in range(0, batch, 2):  # at least one step of each sequence counts
                value[row, 1 + row % shape[1] :] = masked
        found.append(value)
    return found


def _vocabulary(model: Loaded) -> List[str]:
    words = [*_WORDS]
    for layer in model.layers:
        if hasattr(layer, "get_vocabulary"):
            words += [
                word for word in layer.get_vocabulary()[:100] if isinstance(word, str) and word
            ]
    return words


def _bound(model: Loaded, kind: Any) -> int:
    """Return below what whole numbers are drawn: rows of embeddings, or 256 for bytes."""
    rows = [int(layer.input_dim) for layer in model.layers if type(layer).__name__ == "Embedding"]
    rows += [int(layer.num_tokens) for layer in model.layers if getattr(layer, "num_tokens", None)]
    for variable in () if model.layers else getattr(model.tracked, "variables", ()) or ():
        if "embedding" in variable.name and variable.shape.rank == 2:
            rows.append(int(variable.shape[0]))
    if rows:
        return max(1, min(rows))
    return 256 if kind in (tf.uint8,) else 10
