"""ONNX models, run by onnxruntime with the CPUs that this process may use, or its GPU."""

import os
from typing import Any, Dict

import numpy as np
import onnxruntime

from .errors import Fatal
from .models import Input, Model, fixed_rows, tail_of

_TYPES = {
    "float": np.float32,
    "double": np.float64,
    "float16": np.float16,
    "bool": np.bool_,
    "string": np.object_,
}


def load_onnx(path: str) -> Model:
    """Return the model of an ONNX file.

    Threads are set from the CPUs that Slurm gave: onnxruntime would else count the machine's, and
    bind threads where it must not (onnxruntime #10736).
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    options.inter_op_num_threads = 1
    there = onnxruntime.get_available_providers()
    wanted = [name for name in ("CUDAExecutionProvider", "CPUExecutionProvider") if name in there]
    session = onnxruntime.InferenceSession(path, options, providers=wanted)
    inputs = [
        Input(one.name, tail_of(one.shape, one.name), _type(one.type, one.name))
        for one in session.get_inputs()
    ]
    names = [one.name for one in session.get_outputs()]
    fixed = fixed_rows([one.shape[0] for one in session.get_inputs()])

    def run(feeds: Dict[str, Any]) -> Dict[str, Any]:
        return dict(zip(names, session.run(names, feeds)))

    return Model(inputs, run, fixed)


def _type(text: str, name: str) -> Any:
    """Return numpy's type of ``tensor(float)``."""
    inner = text[len("tensor(") : -1] if text.startswith("tensor(") else ""
    try:
        return np.dtype(_TYPES.get(inner, inner))
    except TypeError:
        raise Fatal(f"The model's input {name!r} is {text}, which no file holds.") from None
