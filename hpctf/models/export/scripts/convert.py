"""Converts SavedModels to ONNX: a script for hpctf's own environment of exports.

A request holds ``models``; each has ``saved_model``, ``to`` (the file to write), ``opset``,
``layers``, ``metadata`` (texts to keep in the file) and ``external_from``, in bytes: from there on
the weights lie in a file of their own, since a file of protobuf's ends at 2 GB. The answer has for
each model the ``opset``, or why it is ``refused``.
"""

import gc
import logging
import os
import re
import tempfile
import traceback
from typing import Any, Dict, Iterator, List
from unittest import mock

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import onnx
import tensorflow as tf
from hpctf_answers import answer_request, first_line
from hpctf_names import dim_names, shown
from hpctf_weights import Weights, put_into_file, put_into_model, size_of, take_out
from tf2onnx import optimizer, tf_loader, utils
from tf2onnx.handler import tf_op
from tf2onnx.tfonnx import process_tf_graph

_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Domains whose operations ONNX Runtime has."""

_IN_FILE = 256 * 2**20
"""From how many bytes on a SavedModel's weights never are in TensorFlow's graph, which holds 2 GB
at most and is copied by its optimiser."""


@tf_op("Erfc")
class Erfc:
    """TensorFlow computes gelu by erfc, which ONNX has as 1 - erf (tensorflow-onnx, #2463)."""

    @classmethod
    def version_9(cls, ctx: Any, node: Any, **_: Any) -> None:
        """Put Sub and Erf in the place of the node."""
        kind, shape = ctx.get_dtype(node.output[0]), ctx.get_shape(node.output[0])
        one = np.array(1, utils.map_onnx_to_numpy_type(kind))
        inputs, outputs = list(node.input), list(node.output)
        ctx.remove_node(node.name)
        erf = ctx.make_node("Erf", inputs, shapes=[shape], dtypes=[kind])
        left = ctx.make_const(utils.make_name("one"), one).output[0]
        ctx.make_node(
            *("Sub", [left, erf.output[0]]),
            name=node.name,
            outputs=outputs,
            shapes=[shape],
            dtypes=[kind],
        )


class Refused(Exception):
    """A model that cannot be converted."""


class Complaints(logging.Handler):
    """Keeps what tf2onnx logs of operations that it cannot convert: it goes on after them."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.nodes: List[List[str]] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Take the operation and the node out of a message."""
        said = record.getMessage()
        found = re.search(r"\[(\S+): (\S+)\] is not supported", said)
        if found:
            self.nodes.append([found.group(2), found.group(1)])
        found = re.search(r"Failed to convert node '([^']+)'.*?\bOP=(\w+)", said, re.S)
        if found:
            self.nodes.append([found.group(2), found.group(1)])


def _answer(job: Dict[str, Any]) -> Dict[str, Any]:
    complaints = Complaints()
    logging.getLogger("tf2onnx").addHandler(complaints)
    try:
        beside = os.path.dirname(job["to"])
        with tempfile.NamedTemporaryFile(dir=beside) as file, Weights(file).in_use() as weights:
            model = convert(job, weights)
            complaints.nodes += [[node.op_type, node.name] for node in unknown_nodes(model)]
            if complaints.nodes:
                raise Refused("")
            save(model, weights, job["to"], job["external_from"])
    except Exception as error:  # of tf2onnx, which has no exceptions of its own
        if not isinstance(error, Refused):
            traceback.print_exc()
        named = [shown(op, node, job["layers"]) for op, node in complaints.nodes]
        if named:
            several = ", ".join(list(dict.fromkeys(named))[:4])
            return {"refused": f"ONNX has nothing for {several}."}
        return {"refused": f"tf2onnx: {type(error).__name__}: {first_line(error)}"}
    finally:
        logging.getLogger("tf2onnx").removeHandler(complaints)
    return {"opset": max(one.version for one in model.opset_import if not one.domain)}


def convert(job: Dict[str, Any], weights: Weights) -> Any:
    """Return the ONNX model of a SavedModel, which refers to weights; its dimensions are named."""
    graph, inputs, outputs, tables, renamed = _frozen(job, weights)
    contents = take_out(graph)
    with tf.Graph().as_default() as whole:
        tf.import_graph_def(graph, name="")
        converted = process_tf_graph(
            whole,
            opset=job["opset"],
            input_names=inputs,
            output_names=outputs,
            const_node_values=contents,
            tensors_to_rename=renamed,
            initialized_tables=tables,
        )
        model = optimizer.optimize_graph(converted).make_model("converted from a SavedModel")
    _name_dims(model)
    for key, value in job["metadata"].items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name = "hpctf"
    return model


def _frozen(job: Dict[str, Any], weights: Weights) -> Any:
    """Return a SavedModel's graph without variables, the names of its inputs and outputs, its
    tables, and names to change."""
    large = _size(job["saved_model"]) >= min(job["external_from"], _IN_FILE)
    with mock.patch.object(tf_loader, "convert_variables_to_constants_large_model", weights.freeze):
        found = tf_loader.from_saved_model(
            *(job["saved_model"], None, None, None, ["serving_default"], None, large),
            return_initialized_tables=True,
            return_tensors_to_rename=True,
        )
    gc.collect()  # TensorFlow's objects, which hold the variables, refer to each other
    return found


def _size(folder: str) -> int:
    paths = [os.path.join(top, name) for top, _, names in os.walk(folder) for name in names]
    return sum(os.path.getsize(path) for path in paths)


def _name_dims(model: Any) -> None:
    free = [
        [
            (tensor.name, axis, dim.dim_param or None)
            for tensor in tensors
            for axis, dim in enumerate(tensor.type.tensor_type.shape.dim)
            if not dim.HasField("dim_value")
        ]
        for tensors in (model.graph.input, model.graph.output)
    ]
    names = dim_names(*free)
    for tensor in (*model.graph.input, *model.graph.output):
        for axis, dim in enumerate(tensor.type.tensor_type.shape.dim):
            if (tensor.name, axis) in names:
                dim.dim_param = names[tensor.name, axis]
    # What tf2onnx says of tensors in between has the old names.
    del model.graph.value_info[:]


def unknown_nodes(model: Any) -> Iterator[Any]:
    """Yield the nodes that no version of ONNX knows: tf2onnx leaves TensorFlow's in the graph."""
    for node in _nodes(model.graph):
        if node.domain not in _DOMAINS or (
            node.domain in ("", "ai.onnx") and not onnx.defs.has(node.op_type)
        ):
            yield node


def _nodes(graph: Any) -> Iterator[Any]:
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in [attribute.g, *attribute.graphs]:
                yield from _nodes(inner)


def save(model: Any, weights: Weights, path: str, external_from: int) -> None:
    """Write a model; from so many bytes on with its weights in ``PATH.data``."""
    if size_of(model) >= external_from:
        put_into_file(model, weights, path + ".data")
    else:
        put_into_model(model, weights)
    onnx.save(model, path)


if __name__ == "__main__":
    answer_request(_answer)
