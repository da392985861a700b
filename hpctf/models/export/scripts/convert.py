"""Converts SavedModels to ONNX: a script for hpctf's own environment of exports.

A request holds ``models``; each has ``saved_model``, ``to`` (the file to write), ``opset``,
``layers``, ``metadata`` (texts to keep in the file) and ``external_from``, in bytes: from there on
the weights lie in a file of their own, since a file of protobuf's ends at 2 GB. The answer has for
each model the ``opset``, or why it is ``refused``.
"""

import logging
import os
import re
import traceback
from typing import Any, Dict, Iterator, List, Tuple

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import numpy as np
import onnx
from hpctf_answers import answer_request, first_line
from hpctf_names import dim_names, shown
from onnx import external_data_helper
from tf2onnx import tf_loader, utils
from tf2onnx.convert import _convert_common
from tf2onnx.graph import Node
from tf2onnx.handler import tf_op

_DOMAINS = ("", "ai.onnx", "ai.onnx.ml", "com.microsoft")
"""Domains whose operations ONNX Runtime has."""

_PAGE = 4096
"""Where a tensor begins in a file of weights, so that it can be mapped."""

# tf2onnx 1.17 calls it for large models, and numpy 2 has dropped it.
if not hasattr(np, "product"):
    vars(np)["product"] = np.prod


_update_proto = Node.update_proto


def _update_all_but_constants(node: Any, external_tensor_storage: Any = None) -> None:
    """Leave out constants, which become initializers: each of tf2onnx's optimisers would copy all
    weights, and a model of 2.3 GB takes more than 23 GB of memory."""
    if not node.is_const():
        _update_proto(node, external_tensor_storage)


Node.update_proto = _update_all_but_constants


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
        model, tensors = convert(job)
        complaints.nodes += [[node.op_type, node.name] for node in unknown_nodes(model)]
        if complaints.nodes:
            raise Refused("")
        save(model, tensors, job["to"], job["external_from"])
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


def convert(job: Dict[str, Any]) -> Tuple[Any, Dict[str, bytes]]:
    """Return the ONNX model of a SavedModel, with its dimensions named, and if it is large what its
    tensors hold, by their locations."""
    large = _size(job["saved_model"]) >= job["external_from"]
    graph, inputs, outputs, tables, renamed = tf_loader.from_saved_model(
        *(job["saved_model"], None, None, None, ["serving_default"], None, large),
        return_initialized_tables=True,
        return_tensors_to_rename=True,
    )
    model, storage = _convert_common(
        graph,
        name="a SavedModel",
        opset=job["opset"],
        input_names=inputs,
        output_names=outputs,
        large_model=large,
        tensors_to_rename=renamed,
        initialized_tables=tables,
    )
    _name_dims(model)
    for key, value in job["metadata"].items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name = "hpctf"
    return model, storage.name_to_tensor_data if large else {}


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


def save(model: Any, tensors: Dict[str, bytes], path: str, external_from: int) -> None:
    """Write a model; from so many bytes on with its weights in ``PATH.data``.

    Parameters
    ----------
    tensors
        What tensors hold that are not in the model. They are taken out of it as they are written.
    """
    weights = path + ".data"
    if tensors:
        with open(weights, "wb") as stream:
            for tensor in external_data_helper._get_all_tensors(model):
                if not external_data_helper.uses_external_data(tensor):
                    continue
                name = external_data_helper.ExternalDataInfo(tensor).location
                stream.seek(-stream.tell() % _PAGE, os.SEEK_CUR)
                begin = stream.tell()
                size = stream.write(tensors.pop(name))
                del tensor.external_data[:]
                tensor.raw_data = b""
                external_data_helper.set_external_data(
                    tensor, os.path.basename(weights), begin, size
                )
                tensor.ClearField("raw_data")
        onnx.save(model, path)
        return
    outside = model.ByteSize() >= external_from
    more = {"location": os.path.basename(weights), "all_tensors_to_one_file": True}
    onnx.save(model, path, save_as_external_data=outside, **(more if outside else {}))


if __name__ == "__main__":
    answer_request(_answer)
