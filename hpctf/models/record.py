"""``model.json``: what a version of a model is, written once and never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hpctf.common.files import read_json, write_json
from hpctf.common.forms import FormError, checked
from hpctf.errors import UnreadableModel, shown
from hpctf.models.onnx_files import is_onnx, model_in

FORMAT = 1
"""Version of ``model.json`` that is written, and the newest that is read."""

RECORD = "model.json"

KINDS = ("keras", "h5", "saved_model", "onnx", "litert", "files")
"""What the files are: Keras' own formats, TensorFlow's, ONNX, LiteRT, or anything else."""


@dataclass(frozen=True)
class File:
    """A file of a model."""

    bytes: int
    sha256: str


@dataclass(frozen=True)
class OfRun:
    """What a model keeps of the run that made it, in short; more lies in its folder ``run``.

    ``folder`` is where the run lay, ``environment`` the name of its environment, ``metrics`` the
    last value of each number that it logged.
    """

    id: str
    experiment: str
    folder: str
    state: str | None = None
    user: str | None = None
    job_id: str | None = None
    git_commit: str | None = None
    environment: str | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)
    tags: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Record:
    """A version of a model, as it was registered. What is not there has the default.

    ``id`` is nobody else's. ``path`` is the model's file or folder below ``files``, ``files`` all
    files there with their checksums, and ``kind`` one of `KINDS`.
    """

    id: str
    name: str
    path: str
    files: dict[str, File]
    registered: float
    format: int = FORMAT
    user: str | None = None
    host: str | None = None
    kind: str = "files"
    framework: str | None = None
    framework_version: str | None = None
    description: str | None = None
    tags: dict[str, Any] = field(default_factory=dict)
    properties: dict[str, Any] = field(default_factory=dict)
    datasets: dict[str, list[str]] = field(default_factory=dict)
    sample_input: str | None = None
    sample_output: str | None = None
    resources: dict[str, Any] | None = None
    run: OfRun | None = None

    @property
    def bytes(self) -> int:
        """How large its files are together."""
        return sum(file.bytes for file in self.files.values())

    def write(self, folder: Path) -> None:
        """Write it into a version's folder."""
        write_json(folder / RECORD, asdict(self))


def read_record(folder: Path) -> Record:
    """Return the record of a version's folder.

    Raises
    ------
    UnreadableModel
        It is missing, damaged, or of a newer hpctf.
    """
    try:
        found = read_json(folder / RECORD, follow=False)
        if isinstance(found, dict) and isinstance(found.get("format"), int):
            _check_format(folder, found["format"])
        return _record_of(checked(found, Record))
    except (OSError, UnicodeDecodeError) as error:
        raise unreadable(folder, getattr(error, "strerror", None) or "it is not text") from None
    except (FormError, ValueError) as error:
        raise unreadable(folder, str(error).rstrip(".")) from None


def kind_of(path: str, names: Mapping[str, Any]) -> str:
    """Return which of `KINDS` a model is, by its path and the names of its files."""
    endings = {
        ".keras": "keras",
        ".h5": "h5",
        ".hdf5": "h5",
        ".tflite": "litert",
    }
    if f"{path}/saved_model.pb" in names:
        return "saved_model"
    if (is_onnx(path) and path in names) or model_in(path, names):
        return "onnx"
    return endings.get(Path(path).suffix.lower(), "files") if path in names else "files"


def unreadable(folder: Path, why: str) -> UnreadableModel:
    """Return what to tell of a version whose record cannot be read."""
    return UnreadableModel(
        f"Cannot read model {folder.parent.name}:{folder.name}: {RECORD}: {why}.",
        f"Restore {str(folder / RECORD)!r} from a backup, or register the model again.",
    )


def _record_of(found: dict[str, Any]) -> Record:
    _check_names(found)
    known = {key: found[key] for key in Record.__dataclass_fields__ if key in found}
    known["files"] = {
        name: File(one["bytes"], one["sha256"]) for name, one in found["files"].items()
    }
    if found["run"] is not None:
        run = found["run"]
        known["run"] = OfRun(**{key: run[key] for key in OfRun.__dataclass_fields__ if key in run})
    return Record(**known)


def _check_names(found: dict[str, Any]) -> None:
    """Refuse names that lead out of the version's folder: somebody else may have written them."""
    path = found["path"]
    if path in ("", ".", "..") or "/" in path:
        raise FormError(f"path is {shown(path)}, but must be one name")
    for name in found["files"]:
        parts = name.split("/")
        if parts[0] != path or not {"", ".", ".."}.isdisjoint(parts):
            raise FormError(f"files has {shown(name)}, which does not lie in {shown(path)}")


def _check_format(folder: Path, number: int) -> None:
    if number > FORMAT:
        raise UnreadableModel(
            f"Cannot read model {folder.parent.name}:{folder.name}: {RECORD} has format {number}, "
            f"and this hpctf reads up to {FORMAT}.",
            "Update hpctf.",
        )
