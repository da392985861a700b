"""Which file of a registered model ONNX Runtime loads."""

from __future__ import annotations

from pathlib import Path

from hpctf.errors import UsageError
from hpctf.models.onnx_files import model_in
from hpctf.models.version import Version


def onnx_file(version: Version) -> Path:
    """Return the ONNX file of a registered model: itself, or the only one in its folder.

    Raises
    ------
    UnreadableModel
        Its files are not what was registered.
    UsageError
        It is not an ONNX model.
    """
    return loaded_file(version, version.verified())


def loaded_file(version: Version, path: Path) -> Path:
    """Return what `onnx_file` does, of a model that lies verified at `path`."""
    record = version.record
    if record.kind != "onnx":
        raise UsageError(
            f"Model {version.id} is not an ONNX model: {record.path}.",
            f"Export it (hpctf models export {version.id}), or name an entry script "
            "(--entry-script score.py).",
        )
    inside = model_in(record.path, record.files)
    return path if inside is None else path.parent / inside
