"""Models of Keras, loaded by the Keras that wrote them, and SavedModels."""

import contextlib
from typing import Any, Dict, List

import numpy as np
import tensorflow as tf

from .errors import Fatal
from .models import Input, Model, tail_of


def load_keras(path: str) -> Model:
    """Return the model of a .keras or .h5 file.

    tf-keras reads what Keras 3 does not: its own .keras files, and recurrent layers in .h5 files.
    """
    try:
        model = tf.keras.models.load_model(path, compile=False)
    except Exception:
        try:
            import tf_keras
        except ImportError:
            tf_keras = None
        if tf_keras is None or tf_keras is tf.keras:
            raise
        model = tf_keras.models.load_model(path, compile=False)
    if not getattr(model, "inputs", None):
        raise Fatal("The model does not say what it takes: export it as a SavedModel, or to ONNX.")
    inputs = [
        Input(one.name.split(":")[0], tail_of(tuple(one.shape), one.name), _type(one.dtype))
        for one in model.inputs
    ]
    names: List[str] = list(getattr(model, "output_names", None) or [])

    def run(feeds: Dict[str, Any]) -> Dict[str, Any]:
        given = [_tensor(feeds[one.name], one) for one in inputs]
        found = model(given[0] if len(given) == 1 else given, training=False)
        if isinstance(found, dict):
            return {name: np.asarray(value) for name, value in found.items()}
        values = tf.nest.flatten(found)
        known = names if len(names) == len(values) else [f"output_{n}" for n in range(len(values))]
        return {name: np.asarray(value) for name, value in zip(known, values)}

    return Model(inputs, run)


def load_saved_model(path: str) -> Model:
    """Return the model of a SavedModel's signature ``serving_default``, or its only one."""
    loaded = tf.saved_model.load(path)
    signatures = dict(loaded.signatures)
    signature = signatures.get("serving_default")
    if signature is None and len(signatures) == 1:
        signature = next(iter(signatures.values()))
    if signature is None:
        there = ", ".join(signatures) or "none"
        raise Fatal(f"The SavedModel has no signature 'serving_default'; it has {there}.")
    inputs = [
        Input(name, tail_of(spec.shape.as_list(), name), _type(spec.dtype))
        for name, spec in signature.structured_input_signature[1].items()
    ]

    def run(feeds: Dict[str, Any]) -> Dict[str, Any]:
        given = {one.name: _tensor(feeds[one.name], one) for one in inputs}
        return {name: value.numpy() for name, value in signature(**given).items()}

    # a signature stands on the object that it was loaded with
    model = Model(inputs, run)
    model.owner = loaded
    return model


def _type(dtype: Any) -> Any:
    found = tf.as_dtype(dtype)
    return np.dtype(object) if found == tf.string else np.dtype(found.as_numpy_dtype)


def _tensor(array: Any, one: Input) -> Any:
    with contextlib.suppress(AttributeError):
        return tf.constant(array.astype(str) if one.dtype.kind == "O" else array)
    return tf.constant(array)
