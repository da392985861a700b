"""What models run on: the job's GPU where there is one, else its CPUs, which is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import onnxruntime

from hpctf.serving.server.model import Model

_CPU, _GPU = "CPUExecutionProvider", "CUDAExecutionProvider"

Providers = list[Any]


def chosen(use_gpu: bool, tell: Callable[[str], None]) -> Providers:
    """Return onnxruntime's execution providers in their order. `tell` gets what is missing."""
    if not use_gpu:
        return [_CPU]
    if _GPU not in onnxruntime.get_available_providers():
        tell("This onnxruntime has no CUDA: models run on the CPUs")
        return [_CPU]
    onnxruntime.preload_dlls()  # of NVIDIA's packages in this environment, else of the system
    # As exact as what was verified as the model was exported: tensor cores would round to 10 bits.
    return [(_GPU, {"use_tf32": "0", "cudnn_conv_algo_search": "HEURISTIC"}), _CPU]


def runs_on(models: Sequence[Model], use_gpu: bool, tell: Callable[[str], None]) -> str:
    """Return ``gpu`` if that is where all models run, else ``cpu``; empty if there are none."""
    if not models:
        return ""
    left = [model.name for model in models if model.providers[:1] != [_GPU]]
    if use_gpu and left:
        tell(f"The service requested a GPU, but these models run on the CPUs: {', '.join(left)}")
    return "cpu" if left else "gpu"
