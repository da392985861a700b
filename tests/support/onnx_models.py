"""ONNX models for tests, made in an environment that has onnx: ``python onnx_models.py FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

UNITS, CLASSES = 64, 10


def weights() -> Any:
    """Return the weights of ``digits``."""
    return np.random.default_rng(0).normal(size=(UNITS, CLASSES)).astype(np.float32)


def make(folder: Path) -> None:
    """Write each model as ``NAME.onnx``."""
    import onnx
    from onnx import TensorProto as Types
    from onnx import helper, numpy_helper

    def tensor(name: str, kind: int, shape: list[Any]) -> Any:
        return helper.make_tensor_value_info(name, kind, shape)

    def write(name: str, nodes: Any, inputs: Any, outputs: Any, constants: Any = ()) -> None:
        graph = helper.make_graph(nodes, name, inputs, outputs, list(constants))
        versions = [helper.make_opsetid("", 17)]
        model = helper.make_model(graph, opset_imports=versions, ir_version=10)
        onnx.checker.check_model(model)
        onnx.save(model, folder / f"{name}.onnx")

    node, rows = helper.make_node, "batch"
    floats, images = [rows, UNITS], [rows, 3, 224, 224]
    write(
        "digits",
        [node("MatMul", ["x", "w"], ["y"])],
        [tensor("x", Types.FLOAT, floats)],
        [tensor("y", Types.FLOAT, [rows, CLASSES])],
        [numpy_helper.from_array(weights(), "w")],
    )
    write(  # two inputs, two outputs, and types that JSON does not have
        "several",
        [
            node("Cast", ["whole"], ["halves"], to=Types.FLOAT16),
            node("Identity", ["texts"], ["again"]),
        ],
        [tensor("whole", Types.INT32, [rows, 2]), tensor("texts", Types.STRING, [rows])],
        [tensor("halves", Types.FLOAT16, [rows, 2]), tensor("again", Types.STRING, [rows])],
    )
    write(  # fails for numbers that are not 0..9, which no shape says
        "picks",
        [node("Gather", ["table", "number"], ["value"], axis=0)],
        [tensor("number", Types.INT64, [rows])],
        [tensor("value", Types.FLOAT, [rows])],
        [numpy_helper.from_array(np.arange(10, dtype=np.float32), "table")],
    )
    write(  # each row depends on all: these must not run together
        "centred",
        [
            node("ReduceMean", ["x"], ["mean"], axes=[0], keepdims=1),
            node("Sub", ["x", "mean"], ["y"]),
        ],
        [tensor("x", Types.FLOAT, [rows, 2])],
        [tensor("y", Types.FLOAT, [rows, 2])],
    )
    write(
        "images",
        [node("ReduceMean", ["x"], ["y"], axes=[2, 3], keepdims=0)],
        [tensor("x", Types.FLOAT, images)],
        [tensor("y", Types.FLOAT, [rows, 3])],
    )


if __name__ == "__main__":
    make(Path(sys.argv[1]))
