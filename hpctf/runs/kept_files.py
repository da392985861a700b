"""The files that a run keeps: what they are called, and copying them out of the run."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator
from pathlib import Path

from hpctf.client.hpctf.artifacts import place_of
from hpctf.client.hpctf.within import is_readable_within
from hpctf.errors import UnreadableRun
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.ownership import has_file, open_of_run
from hpctf.runs.provenance import snapshot_contents
from hpctf.source.snapshot import NEVER

LEFT_BY_SCRIPT = ("outputs/", "checkpoints/", "snapshot/")
"""What names of files begin with that the script itself has written."""

_BESIDE_OUTPUTS = LEFT_BY_SCRIPT[1:]
_CHUNK = 1 << 20


def names_of(folder: RunFolder) -> list[str]:
    """Return the names of a run's files, sorted.

    Its outputs, logs and checkpoints are ``outputs/...``, ``logs/...`` and ``checkpoints/...``,
    what the script wrote into its working directory ``snapshot/...``; what it has uploaded has the
    names that it chose.
    """
    rooms = {
        folder.outputs: folder.path,
        folder.logs: folder.path,
        folder.checkpoints: folder.path,
        folder.artifacts: folder.artifacts,
    }
    found = set(_added_to_snapshot(folder))
    for room, top in rooms.items():
        for path in room.rglob("*"):  # which follows no links to folders
            leads_elsewhere = path.is_symlink() or room.is_symlink()
            if path.is_file() and (not leads_elsewhere or has_file(path)):
                found.add(str(path.relative_to(top)))
    return sorted(found)


def _added_to_snapshot(folder: RunFolder) -> Iterator[str]:
    """Yield the files of the snapshot that were not copied into it as they are now; of new links
    those that lead to files within the run."""
    top = str(folder.snapshot)
    before = None if os.path.islink(top) else _copied_into(folder)
    if before is None:
        return
    for place, folders, names in os.walk(top):
        folders[:] = [name for name in folders if name not in NEVER]
        for name in names:
            path = os.path.join(place, name)
            inside = path[len(top) + 1 :]
            try:
                now = os.lstat(path)
            except OSError:  # gone meanwhile
                continue
            if stat.S_ISLNK(now.st_mode):
                is_new = inside not in before and is_readable_within(path)
            else:
                is_new = before.get(inside) != [now.st_size, now.st_mtime_ns]
                is_new = is_new and stat.S_ISREG(now.st_mode)
            if is_new:
                yield os.path.join("snapshot", inside)


def _copied_into(folder: RunFolder) -> dict[str, list[int]] | None:
    """Return what was copied into a run's snapshot, by name; None if that is not known."""
    try:
        return snapshot_contents(folder)
    except FileNotFoundError:
        return {} if folder.read_plan()["entry"]["kind"] == "function" else None
    except (OSError, UnreadableRun):
        return None


def path_of(folder: RunFolder, name: str) -> Path:
    """Return where a file of `names_of` lies.

    Raises
    ------
    ValueError
        The name leads out of the run.
    """
    path = Path(place_of(str(folder.path), name))
    if name.startswith(_BESIDE_OUTPUTS) and not os.path.lexists(path):  # an upload may be called so
        return folder.path / name
    return path


def copy_file(folder: RunFolder, name: str, to: str | os.PathLike[str]) -> Path:
    """Copy a file to a file or folder, and return where it lies now."""
    target = Path(to)
    if target.is_dir() or str(to).endswith(os.sep):
        target = target / Path(name).name
    target.parent.mkdir(parents=True, exist_ok=True)
    return copy_of_run(path_of(folder, name), target)


def copy_of_run(path: str | os.PathLike[str], target: Path) -> Path:
    """Copy a file of a run with its permissions and times, and return where it lies now."""
    with open_of_run(path) as source:
        with open(target, "wb") as copy:
            shutil.copyfileobj(source, copy, _CHUNK)
        found = os.fstat(source.fileno())
    os.chmod(target, stat.S_IMODE(found.st_mode) & 0o777)
    os.utime(target, ns=(found.st_atime_ns, found.st_mtime_ns))
    return target
