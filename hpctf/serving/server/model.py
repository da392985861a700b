"""A model in onnxruntime: what it takes and gives, and whether rows of several requests may run
together."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnxruntime

from hpctf.common.trusted_path import Trusted, check_tree
from hpctf.errors import UsageError
from hpctf.models.onnx_model import onnx_file
from hpctf.models.version import Version
from hpctf.serving.server.refusal import too_busy, wrong
from hpctf.serving.server.tensors import ANY, DATATYPES, TensorSpec

_TYPES = {
    "bool": "BOOL",
    "float16": "FP16",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    **{
        f"{sign}int{bits}": f"{sign}int{bits}".upper()
        for sign in ("", "u")
        for bits in (8, 16, 32, 64)
    },
}
"""The protocol's names of onnxruntime's types."""


class Model:
    """A registered ONNX model that is loaded.

    Parameters
    ----------
    version
        Its folder in the registry. Nobody but the person and those `trusted` may write it.
    threads
        How many threads compute one run.
    providers
        onnxruntime's execution providers, with the options of each; it takes the first that works.

    Raises
    ------
    UntrustedPath
        Others could exchange the model.
    UnreadableModel
        Its files are not what was registered.
    UsageError
        onnxruntime does not take it, or it has inputs or outputs that are no tensors.
    """

    def __init__(
        self,
        version: Version,
        threads: int,
        trusted: Trusted,
        providers: Sequence[Any] = ("CPUExecutionProvider",),
    ) -> None:
        self.name, self.version = version.name, str(version.number)
        check_tree(version.path, f"Model {version.id}", trusted)
        file = onnx_file(version)
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # A thread that waits must leave its CPU to the one that reads requests.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            self._session = onnxruntime.InferenceSession(
                os.fspath(file), options, providers=list(providers)
            )
        except Exception as error:  # onnxruntime's exceptions have no base of their own
            raise UsageError(
                f"onnxruntime does not load model {version.id}: {error}",
                "Export it again: hpctf models export NAME.",
            ) from None
        self.providers = list(self._session.get_providers())
        self.inputs = {spec.name: spec for spec in map(_spec, self._session.get_inputs())}
        self.outputs = {spec.name: spec for spec in map(_spec, self._session.get_outputs())}
        self._names = list(self.outputs)
        self.joins_rows = self._joins_rows()

    def run(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """Return all outputs by name.

        Raises
        ------
        Refusal
            The model does not take these values, or has no memory for them now.
        """
        try:
            found = self._session.run(self._names, inputs)
        except Exception as error:  # onnxruntime's exceptions have no base of their own
            if "alloc" in str(error):
                raise too_busy(f"Model {self.name} has no memory for this request.") from None
            raise wrong(
                f"Model {self.name} fails with these inputs: {_first_line(error)}"
            ) from None
        return dict(zip(self._names, found, strict=True))

    def _joins_rows(self) -> bool:
        """Whether two requests may run as one: every first dimension is free, and trying it with
        one, two and three rows shows that no row depends on another."""
        specs = [*self.inputs.values(), *self.outputs.values()]
        if not all(spec.shape[:1] == (ANY,) for spec in specs):
            return False
        random = np.random.default_rng(0)
        one, two = (
            {name: _example(spec, rows, random) for name, spec in self.inputs.items()}
            for rows in (1, 2)
        )
        try:
            apart = [self._session.run(self._names, inputs) for inputs in (one, two)]
            both = {name: np.concatenate([one[name], two[name]]) for name in one}
            together = self._session.run(self._names, both)
        except Exception:  # it does not take what was made up: so nothing is known of its rows
            return False
        return all(map(_are_rows_of, together, *apart))


def _spec(one: Any) -> TensorSpec:
    kind = str(one.type)
    datatype = _TYPES.get(kind.removeprefix("tensor(").removesuffix(")"))
    if datatype is None or not kind.startswith("tensor("):
        raise UsageError(
            f"{one.name!r} of the model is a {kind}, which the protocol does not have.",
            "Deploy it with an entry script, which may return anything that JSON holds.",
        )
    sizes = [size if isinstance(size, int) and size >= 0 else ANY for size in one.shape]
    return TensorSpec(one.name, datatype, tuple(sizes))


def _example(spec: TensorSpec, rows: int, random: np.random.Generator) -> Any:
    """Return an input of so many rows; free dimensions are 4, which most models take."""
    shape = (rows, *(4 if size == ANY else size for size in spec.shape[1:]))
    if spec.datatype == "BYTES":
        return np.full(shape, "a", dtype=np.object_)
    dtype = np.dtype(DATATYPES[spec.datatype])
    if dtype.kind == "f":
        return random.normal(size=shape).astype(dtype)
    return random.integers(0, 2, size=shape).astype(dtype)


def _are_rows_of(together: Any, one: Any, two: Any) -> bool:
    """Whether an output of all rows is the outputs of some and of the others, up to rounding."""
    if (len(one), len(two), len(together)) != (1, 2, 3):
        return False
    if not one.shape[1:] == two.shape[1:] == together.shape[1:]:
        return False
    apart = np.concatenate([one, two])
    if together.dtype.kind != "f":
        return bool((together == apart).all())
    within = 1e-2 if together.dtype == np.float16 else 1e-4
    return bool(np.allclose(together, apart, within, within, equal_nan=True))


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
