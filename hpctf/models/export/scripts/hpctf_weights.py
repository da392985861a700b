"""Weights in a file rather than in memory while tf2onnx converts a model; part of ``convert.py``.

tf2onnx keeps each constant in TensorFlow's graph, in its own, and in every copy that it makes of
that: of a model of 2.3 GB, more than 13 GB. Here they all hold references to the file, and what
looks at the values maps them.
"""

import contextlib
import os
from typing import Any, Dict, Iterator, Sequence, Tuple
from unittest import mock

import numpy as np
import onnx
from onnx import external_data_helper, numpy_helper
from tensorflow.core.framework import tensor_pb2
from tensorflow.python.framework import convert_to_constants, tensor_shape, tensor_util
from tf2onnx import tf_loader

_LARGE = 1024
"""From how many bytes on a constant lies in the file. What is smaller may be a shape, at which
TensorFlow and ONNX look when they infer others."""

_PAGE = 4096
"""Where a tensor begins in a file of weights, so that it can be mapped."""

_CHUNK = 16 * 2**20
_MARK = b"hpctf-weights:"


class _Reference(np.ndarray):
    """Stands for an array in the file: it has its shape and type, and takes no memory."""

    begin = 0


class Weights:
    """The large constants of one model, in a temporary file that has a name."""

    def __init__(self, file: Any) -> None:
        self._path = file.name
        self._file = file
        self._make_proto = tensor_util.make_tensor_proto
        self._make_array = tensor_util.MakeNdarray
        self._from_array = numpy_helper.from_array
        self._to_array = numpy_helper.to_array

    def write(self, array: Any) -> int:
        """Write an array, and return where it begins."""
        self._file.seek(-self._file.seek(0, os.SEEK_END) % _PAGE, os.SEEK_CUR)
        begin = int(self._file.tell())
        self._file.write(np.ascontiguousarray(array).data.cast("B"))
        self._file.flush()
        return begin

    def array(self, begin: int, kind: Any, shape: Any) -> Any:
        """Return an array of the file. What is written to it stays out of the file."""
        return np.memmap(self._path, kind, "c", begin, tuple(shape))

    def copy(self, begin: int, size: int, to: Any) -> None:
        """Copy a part of the file to another one."""
        self._file.seek(begin)
        while size:
            size -= to.write(self._file.read(min(size, _CHUNK)))

    def read(self, begin: int, size: int) -> bytes:
        """Return a part of the file."""
        self._file.seek(begin)
        return bytes(self._file.read(size))

    def freeze(self, function: Any) -> Any:
        """Return the graph of a function, with its variables as constants in the file."""
        weights = self

        class Converter(convert_to_constants._FunctionConverterDataInEager):  # type: ignore[misc]
            def _eval(self, tensor: Any) -> Any:
                value = tensor.numpy()
                if not hasattr(tensor, "read_value") or not _is_large(value):
                    return value
                found = np.broadcast_to(np.zeros((), value.dtype), value.shape).view(_Reference)
                found.begin = weights.write(value)
                return found

        converter = Converter(func=function, lower_control_flow=False, aggressive_inlining=True)
        with mock.patch.object(tensor_util, "make_tensor_proto", self._tensorflow_proto):
            graph, _ = convert_to_constants._replace_variables_by_constants(converter)
        _pass_by_identities(graph, [tensor.name for tensor in function.outputs])
        return tf_loader.fix_freezing_errors_part2(graph)

    def _tensorflow_proto(self, values: Any, dtype: Any = None, *more: Any, **others: Any) -> Any:
        if not isinstance(values, _Reference):
            return self._make_proto(values, dtype, *more, **others)
        return tensor_pb2.TensorProto(
            dtype=dtype,
            tensor_shape=tensor_shape.as_shape(values.shape).as_proto(),
            tensor_content=_MARK + b"%d" % values.begin,
        )

    @contextlib.contextmanager
    def in_use(self) -> Iterator["Weights"]:
        """Have tf2onnx keep large constants here."""
        with contextlib.ExitStack() as stack:
            for where, name, what in (
                (tensor_util, "MakeNdarray", self._of_tensorflow),
                (numpy_helper, "from_array", self._to_onnx),
                (numpy_helper, "to_array", self._of_onnx),
            ):
                stack.enter_context(mock.patch.object(where, name, what))
            yield self

    def _of_tensorflow(self, tensor: Any) -> Any:
        if not tensor.tensor_content.startswith(_MARK):
            return self._make_array(tensor)
        kind = tensor_util.dtypes.as_dtype(tensor.dtype).as_numpy_dtype
        begin = int(tensor.tensor_content[len(_MARK) :])
        return self.array(begin, kind, (one.size for one in tensor.tensor_shape.dim))

    def _to_onnx(self, array: Any, name: Any = None) -> Any:
        if not _is_large(array):
            return self._from_array(array, name)
        tensor = self._from_array(array[:0].reshape(0), name)
        tensor.ClearField("dims")
        tensor.ClearField("raw_data")
        tensor.dims.extend(array.shape)
        refer(tensor, self._path, self.write(array), array.nbytes)
        return tensor

    def _of_onnx(self, tensor: Any, base_dir: str = "") -> Any:
        if not external_data_helper.uses_external_data(tensor):
            return self._to_array(tensor, base_dir)
        kind = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        begin = external_data_helper.ExternalDataInfo(tensor).offset or 0
        return self.array(begin, kind, tensor.dims)


def _is_large(array: Any) -> bool:
    return array.dtype.kind in "fiub" and array.nbytes > _LARGE


def take_out(graph: Any) -> Dict[str, bytes]:
    """Take the references out of a graph of TensorFlow's, by the names of their nodes.

    TensorFlow would take them for values. tf2onnx gives them back to the constants, as
    ``const_node_values``.
    """
    found = {}
    for node in graph.node:
        tensor = node.attr["value"].tensor if node.op == "Const" else None
        if tensor is not None and tensor.tensor_content.startswith(_MARK):
            found[node.name] = tensor.tensor_content
            tensor.tensor_content = b""
    return found


def _pass_by_identities(graph: Any, outputs: Sequence[str]) -> None:
    """Let operations take constants and tables themselves, not what passes them on.

    tf2onnx would compute that, and keep it in memory; and it finds no table behind it. TensorFlow's
    optimiser, which does this, does not know references.
    """
    first = {node.name for node in graph.node if node.op in ("Const", "Placeholder")}
    passed: Dict[str, str] = {}
    while True:
        more = {
            node.name: passed.get(node.input[0], node.input[0])
            for node in graph.node
            if node.op == "Identity"
            and node.name not in passed
            and (node.input[0] in first or node.input[0] in passed)
        }
        if not more:
            break
        passed.update(more)
    ends = {name.partition(":")[0] for name in outputs}
    nodes = [node for node in graph.node if node.name not in passed or node.name in ends]
    for node in nodes:
        inputs = [
            passed.get(name, name)
            for name in node.input
            if not (name[:1] == "^" and name[1:] in passed)
        ]
        del node.input[:]
        node.input.extend(inputs)
        node.attr.pop("_class", None)  # the nodes that it belongs to
    kept = type(graph)(node=nodes)
    del graph.node[:]
    graph.node.extend(kept.node)


def refer(tensor: Any, location: str, begin: int, size: int) -> None:
    """Let a tensor of ONNX's refer to a part of a file."""
    tensor.raw_data = b""  # the helper takes no tensor without
    external_data_helper.set_external_data(tensor, location, begin, size)
    tensor.ClearField("raw_data")


def put_into_file(model: Any, weights: Weights, path: str) -> None:
    """Write what a model refers to into a file beside it, and let it refer to that."""
    with open(path, "wb") as stream:
        for tensor, begin, size in _references(model):
            stream.seek(-stream.tell() % _PAGE, os.SEEK_CUR)
            refer(tensor, os.path.basename(path), stream.tell(), size)
            weights.copy(begin, size, stream)


def put_into_model(model: Any, weights: Weights) -> None:
    """Write what a model refers to into the model itself."""
    for tensor, begin, size in _references(model):
        del tensor.external_data[:]
        tensor.ClearField("data_location")
        tensor.raw_data = weights.read(begin, size)


def size_of(model: Any) -> int:
    """Return the bytes of a model and of what it refers to."""
    return int(model.ByteSize()) + sum(size for _, _, size in _references(model))


def _references(model: Any) -> Iterator[Tuple[Any, int, int]]:
    for tensor in external_data_helper._get_all_tensors(model):
        if external_data_helper.uses_external_data(tensor):
            info = external_data_helper.ExternalDataInfo(tensor)
            yield tensor, info.offset or 0, info.length or 0
