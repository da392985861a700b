"""The files that a run keeps: what they are called, and copying them out of the run."""

from __future__ import annotations

import os
import shutil
import stat
from pathlib import Path

from hpctf.client.hpctf.artifacts import place_of
from hpctf.runs.folder import RunFolder
from hpctf.runs.own import has_file, open_of_run

_CHUNK = 1 << 20


def names_of(folder: RunFolder) -> list[str]:
    """Return a run's outputs and logs as ``outputs/...`` and ``logs/...``, and what it has
    uploaded by the names that it chose, sorted."""
    rooms = {
        folder.outputs: folder.path,
        folder.logs: folder.path,
        folder.artifacts: folder.artifacts,
    }
    return sorted(
        str(path.relative_to(top))
        for room, top in rooms.items()
        for path in room.rglob("*")
        if path.is_file() and (has_file(path) if _is_link(path, room) else True)
    )


def _is_link(path: Path, room: Path) -> bool:
    """Whether a link leads to a file: `Path.rglob` follows none to folders."""
    return path.is_symlink() or room.is_symlink()


def copy_file(folder: RunFolder, name: str, to: str | os.PathLike[str]) -> Path:
    """Copy a file to a file or folder, and return where it lies now."""
    target = Path(to)
    if target.is_dir() or str(to).endswith(os.sep):
        target = target / Path(name).name
    target.parent.mkdir(parents=True, exist_ok=True)
    return copy_of_run(place_of(str(folder.path), name), target)


def copy_of_run(path: str | os.PathLike[str], target: Path) -> Path:
    """Copy a file of a run with its permissions and times, and return where it lies now."""
    with open_of_run(path) as source:
        with open(target, "wb") as copy:
            shutil.copyfileobj(source, copy, _CHUNK)
        found = os.fstat(source.fileno())
    os.chmod(target, stat.S_IMODE(found.st_mode) & 0o777)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
    return target
