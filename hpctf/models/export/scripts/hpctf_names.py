"""Names in an ONNX graph: of dimensions, and of the layers that operations come from. It imports
no library."""

from typing import Dict, Optional, Sequence, Tuple

BATCH = "batch"

Dim = Tuple[str, int, Optional[str]]
"""A dimension without a size: the input or output that has it, its axis, and its name so far."""


def dim_names(inputs: Sequence[Dim], outputs: Sequence[Dim]) -> Dict[Tuple[str, int], str]:
    """Return a name for each dimension that has no size, by tensor and axis.

    The first of an input is ``batch``; any other is called after its input, such as ``x_1``.
    Outputs have the name that the same dimension has in an input: those that were called alike,
    such as ``unk__21``, are the same.
    """
    found: Dict[Tuple[str, int], str] = {}
    alike: Dict[str, str] = {}
    for tensor, axis, name in [*inputs, *outputs]:
        new = BATCH if axis == 0 else "%s_%d" % (tensor, axis)
        if axis and name:
            new = alike.get(name, new)
        found[tensor, axis] = new
        if name:
            alike.setdefault(name, new)
    return found


def layer_of(node: str, layers: Sequence[str]) -> Optional[str]:
    """Return the innermost of Keras' layers that a node's name, such as
    ``model/dense/MatMul``, leads through."""
    for part in reversed(node.replace(":", "/").split("/")):
        # Keras numbers the second call of a layer: dense_1, where no layer is called so.
        stem, _, number = part.rpartition("_")
        for name in (part, stem if number.isdigit() else part):
            if name in layers:
                return name
    return None


def shown(operation: str, node: str, layers: Sequence[str]) -> str:
    """Return what to call an operation in a message: its type, and its layer or node."""
    layer = layer_of(node, layers)
    return f"{operation} (layer {layer!r})" if layer else f"{operation} ({node!r})"
