"""Which file of a registered model onnxruntime loads."""

from __future__ import annotations

from pathlib import Path

from hpctf.errors import UsageError
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
    path = version.verified()
    found = [path] if path.is_file() else sorted(path.glob("*.onnx"))
    if len(found) != 1 or found[0].suffix != ".onnx":
        raise UsageError(
            f"Model {version.id} is not an ONNX model: {version.record.path}.",
            f"Export it (hpctf models export {version.id}), or name an entry script "
            "(--entry-script score.py).",
        )
    return found[0]
