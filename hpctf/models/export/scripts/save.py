"""Writes models as SavedModels with one signature, and what they answer: a script for the Python
that trained them.

A request holds ``models``; each has ``path`` and ``kind`` of the model, a folder ``to`` for
``saved_model`` and ``reference.npz``, ``code`` (a folder with the training's code, or null),
``script`` (which of it the training began with), ``imports`` (modules with custom objects) and
``allow_code``. The answer has for each model what was
found, or ``refused`` with a hint.
"""

import os
import traceback
from typing import Any, Dict

os.environ["KERAS_BACKEND"] = "tensorflow"
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import tensorflow as tf
from hpctf_answers import Refused, answer_request, first_line
from hpctf_custom import Code
from hpctf_loading import Loaded, load_keras, load_saved_model
from hpctf_reference import exact_of, reference_of

_HALF = ("float16", "bfloat16")


def _answer(job: Dict[str, Any]) -> Dict[str, Any]:
    try:
        return save(job)
    except Refused as error:
        return {"refused": str(error), "hint": error.hint}
    except Exception as error:  # of Keras', TensorFlow's or the model's own code
        traceback.print_exc()
        return {"refused": f"{type(error).__name__}: {first_line(error)}", "hint": ""}


def save(job: Dict[str, Any]) -> Dict[str, Any]:
    """Write a SavedModel and the reference of one model, and return what is known of it."""
    if job["kind"] == "saved_model":
        model = load_saved_model(job["path"])
    else:
        code = Code(job["code"], job["script"])
        model = load_keras(job["path"], job["kind"], code, job["imports"], job["allow_code"])
    reference = reference_of(model)
    half = _is_half(model)
    if half:
        reference.update(exact_of(model, reference))
    np.savez(os.path.join(job["to"], "reference.npz"), **reference)
    write(model, os.path.join(job["to"], "saved_model"))
    return {
        "inputs": [spec.name for spec in model.inputs],
        "outputs": model.outputs,
        "half": half,
        "layers": [layer.name for layer in model.layers],
        "tensorflow": tf.__version__,
        "keras": model.keras,
    }


def _is_half(model: Loaded) -> bool:
    kinds = {str(getattr(layer, "compute_dtype", "")) for layer in model.layers}
    kinds |= {tf.as_dtype(spec.dtype).name for spec in model.inputs}
    for variable in getattr(model.tracked, "variables", ()) or ():
        kinds.add(tf.as_dtype(variable.dtype).name)
    return not kinds.isdisjoint(_HALF)


def write(model: Loaded, to: str) -> None:
    """Write a SavedModel whose one signature has the names of the model's inputs and outputs."""
    module = tf.Module()

    def serve(*tensors: Any) -> Dict[str, Any]:
        return {name: tf.identity(one) for name, one in zip(model.outputs, model.call(*tensors))}

    module.serve = tf.function(serve, input_signature=model.inputs, autograph=False)
    function = module.serve.get_concrete_function()
    # LiteRT's converter takes the values of those variables alone that lie right here.
    module.held = list(function.graph.variables)
    handles = {id(variable.handle) for variable in module.held}
    if any(id(captured) not in handles for captured in function.captured_inputs):
        module.model = model.tracked  # it has tables; Keras' variables are written twice then
    tf.saved_model.save(module, to, signatures={"serving_default": module.serve})


if __name__ == "__main__":
    answer_request(_answer)
