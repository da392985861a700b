"""What is exported, how, and what came of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctf.errors import UsageError

NEWEST_OPSET = 18
"""Of those that tf2onnx 1.17 writes; ONNX Runtime reads all of them."""

OLDEST_OPSET = 9
"""Before it ONNX has no Erf, and hardly any control flow."""

EXTERNAL_FROM = 2_000_000_000
"""From how many bytes on the weights lie in a file of their own: protobuf's files end at 2 GiB."""

KINDS = ("keras", "h5", "saved_model")
"""Kinds of models (`hpctf.models.record.KINDS`) that can be exported."""

QUANTIZED = ("int8", "fp16")

MOST = 1e-5
"""The largest difference that is allowed, relative to an output's largest number above 1."""

MOST_OF_HALF = 1e-3
"""The same of models that compute in half precision."""


@dataclass(frozen=True)
class Options:
    """How a model is exported.

    Parameters
    ----------
    form
        ``onnx`` or ``litert``.
    opset
        ONNX's operator set.
    quantize
        Which smaller variant is tried besides: ``int8`` or ``fp16``.
    within
        The largest difference that is allowed of the variant, as `MOST` counts it.
    imports
        Modules that define layers and models of the training's own, or files with such code.
    allow_code
        Whether Lambda layers are loaded, whose code lies in the file.
    """

    form: str = "onnx"
    opset: int = NEWEST_OPSET
    quantize: str | None = None
    within: float = 1e-2
    imports: Sequence[str] = ()
    allow_code: bool = False

    def __post_init__(self) -> None:
        if not OLDEST_OPSET <= self.opset <= NEWEST_OPSET:
            raise UsageError(
                f"opset is {self.opset}, but hpctf exports {OLDEST_OPSET} to {NEWEST_OPSET}.",
                "Leave it out for the newest.",
            )
        if self.quantize not in (None, *QUANTIZED):
            raise UsageError(f"quantize is {self.quantize!r}, but must be int8 or fp16.")
        if not 0 < self.within < 1:
            raise UsageError(f"within is {self.within}, but must lie between 0 and 1.")

    @property
    def format_name(self) -> str:
        """What the format is called."""
        return {"onnx": "ONNX", "litert": "LiteRT"}[self.form]

    @property
    def framework(self) -> str:
        """What Azure ML calls the framework of such models (``Model.Framework``)."""
        return {"onnx": "Onnx", "litert": "TfLite"}[self.form]

    @property
    def ending(self) -> str:
        """What the names of such files end in."""
        return {"onnx": ".onnx", "litert": ".tflite"}[self.form]


@dataclass(frozen=True)
class Source:
    """A model to export.

    Parameters
    ----------
    id
        What it is called: ``digits:3``.
    stem
        What the names of its files begin with: ``digits-3``. No other one has it.
    path
        Its file or folder, of one of `KINDS`.
    code
        A folder with the code of the training, if there is one.
    script
        The script that the training began with, relative to `code`.
    """

    id: str
    stem: str
    path: Path
    kind: str
    code: Path | None = None
    script: str = ""


@dataclass(frozen=True)
class Variant:
    """A quantised variant, whether it is kept, and why not; sizes in bytes, times in seconds."""

    kind: str
    kept: bool
    why: str = ""
    path: Path | None = None
    largest: float | None = None
    bytes: int | None = None
    bytes_before: int | None = None
    seconds: float | None = None
    seconds_before: float | None = None


@dataclass(frozen=True)
class Exported:
    """A model that answers as the one that it was made of.

    Parameters
    ----------
    path
        The file; ONNX weights of more than `EXTERNAL_FROM` bytes lie beside it, in ``PATH.data``.
    largest
        The largest difference to the model's own answers.
    inputs, outputs
        Name, type, and shape, with names for dimensions without a size.
    opset
        ONNX's operator set; None of LiteRT.
    tensorflow, keras
        What loaded the model.
    exact
        Of a model in half precision that differs by more than is allowed: how far its export and
        the model itself are from what the model answers in single precision. The export is nearer.
    """

    path: Path
    source: str
    opset: int | None
    largest: float
    bytes: int
    inputs: Sequence[Mapping[str, Any]]
    outputs: Sequence[Mapping[str, Any]]
    tensorflow: str
    keras: str
    half: bool = False
    exact: tuple[float, float] | None = None
    variant: Variant | None = None

    @property
    def files(self) -> list[Path]:
        """The model's file, and that of its weights if it has one; the variant's, too."""
        kept = self.variant.path if self.variant is not None else None
        paths = [path for path in (self.path, kept) if path is not None]
        found = [one for path in paths for one in (path, weights_of(path))]
        return [path for path in found if path.exists()]


def weights_of(path: Path) -> Path:
    """Return where the weights of an ONNX file lie, if they are not in it."""
    return path.with_name(f"{path.name}.data")
