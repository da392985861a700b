"""Models of Keras and TensorFlow, loaded as they are for an export (`hpctf.models.export`)."""

import os
import sys
from typing import Any, Dict

import numpy as np

from .errors import Fatal
from .models import Input, Model, fixed_rows, tail_of


def load_tensorflow(about: Dict[str, Any]) -> Model:
    """Return a model, with the Keras that wrote it and the code of its training.

    Parameters
    ----------
    about
        The model as ``score.json`` has it: ``kind``, ``path``, ``scripts`` (the folder of an
        export's scripts), ``code``, ``script``, ``imports`` and ``allow_code``.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    sys.path.insert(0, about["scripts"])
    import hpctf_loading as loading
    import tensorflow as tf
    from hpctf_answers import Refused
    from hpctf_custom import Code

    try:
        if about["kind"] == "saved_model":
            loaded = loading.load_saved_model(about["path"])
        else:
            code = Code(about["code"], about["script"])
            how = about["imports"], about["allow_code"]
            loaded = loading.load_keras(about["path"], about["kind"], code, *how)
    except Refused as error:
        hint = f" {error.hint}" if error.hint else ""
        raise Fatal("Model {} cannot be loaded. {}{}".format(about["id"], error, hint)) from None
    inputs = []
    for spec in loaded.inputs:
        kind = tf.as_dtype(spec.dtype)
        dtype = np.dtype(object) if kind == tf.string else np.dtype(kind.as_numpy_dtype)
        shape = None if spec.shape.rank is None else spec.shape.as_list()
        inputs.append(Input(spec.name, tail_of(shape, spec.name), dtype))

    def run(feeds: Dict[str, Any]) -> Dict[str, Any]:
        values = loading.answers(loaded, [feeds[one.name] for one in inputs])
        return dict(zip(loading.names_of_answers(loaded, len(values)), values))

    return Model(inputs, run, fixed_rows([spec.shape[0] for spec in loaded.inputs]))
