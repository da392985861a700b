"""What dimensions, layers and operations are called in an exported model and in messages."""

from __future__ import annotations

import sys

import pytest

from hpctf.common.paths import EXPORT_SCRIPTS

sys.path.insert(0, EXPORT_SCRIPTS)
from hpctf_names import dim_names, layer_of, shown

sys.path.remove(EXPORT_SCRIPTS)


def test_the_first_dimension_is_the_batch_and_any_other_is_named_after_its_input() -> None:
    inputs = [
        ("words", 0, "unk__21"),
        ("words", 1, "unk__22"),
        ("image", 0, None),
        ("image", 2, None),
    ]
    assert dim_names(inputs, []) == {
        ("words", 0): "batch",
        ("words", 1): "words_1",
        ("image", 0): "batch",
        ("image", 2): "image_2",
    }


def test_dimensions_that_were_called_alike_are_the_same() -> None:
    inputs = [("x", 0, "unk__1"), ("x", 1, "unk__2"), ("y", 1, "unk__2")]
    outputs = [("z", 0, "unk__9"), ("z", 1, "unk__2"), ("z", 2, "unk__5"), ("w", 1, "unk__1")]
    found = dim_names(inputs, outputs)
    assert found["y", 1] == found["z", 1] == found["x", 1] == "x_1"
    assert (found["z", 0], found["z", 2], found["w", 1]) == ("batch", "z_2", "batch")


@pytest.mark.parametrize(
    ("node", "layer"),
    [
        ("StatefulPartitionedCall/model/dense/MatMul", "dense"),
        ("StatefulPartitionedCall/model/dense_1/MatMul", "dense_1"),
        ("functional_3_1/dense_7/Relu", None),
        ("functional_1/lstm_2/lstm_cell_1/mul", "lstm_cell"),
        ("Identity:0", None),
    ],
)
def test_the_innermost_layer_names_a_node(node: str, layer: str | None) -> None:
    layers = ["model", "dense", "dense_1", "lstm_cell"] if layer else ["other"]
    assert layer_of(node, layers) == layer


def test_a_node_of_no_layer_is_called_by_its_own_name() -> None:
    assert shown("Betainc", "f/beta/Betainc", ["beta"]) == "Betainc (layer 'beta')"
    assert shown("Betainc", "f/Betainc", []) == "Betainc ('f/Betainc')"
