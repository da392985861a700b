"""Source folder → run folder: what goes with a run, and what does not."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from hpctf.errors import RunFolderError, UsageError

NEVER = {".git", ".hg", ".svn", "__pycache__", ".ipynb_checkpoints", "node_modules"}
"""Folders that never go with a run, at any depth; nor do virtual environments."""

OUTPUT_FOLDERS = {"outputs", "logs"}
"""Folders at the top that a run makes itself, as in Azure ML: old ones stay behind."""

_STAY = NEVER | OUTPUT_FOLDERS

IGNORE_FILES = (".hpctfignore", ".amlignore", ".gitignore")
"""The first of these at the top of the source folder says what else to leave out."""

Ignores = Callable[[str], bool]


def take_snapshot(source: Path, destination: Path, max_mb: int, needed: str | None = None) -> int:
    """Copy what goes with a run and return its size in bytes.

    Files keep their modes and times. A link stays a link: within the folder as it is, elsewhere
    to the absolute place, so that a link to a data set is not followed. Sockets and pipes are
    left out.

    Parameters
    ----------
    source
        The source folder.
    destination
        The folder to make, in a run folder that exists; runs within `source` are left out.
    max_mb
        The largest size, in megabytes.
    needed
        The entry script, relative to `source`.

    Raises
    ------
    UsageError
        The folder is larger than `max_mb`, or `needed` is left out; nothing has been copied then.
    RunFolderError
        A file cannot be read or written.
    """
    source = source.resolve()
    runs = {str(folder) for folder in destination.resolve().parents[:3]}
    files = list(_walk(source, "", _ignores(source), runs))
    if needed is not None and needed not in files:
        raise UsageError(
            f"entry_script {needed!r} does not go with the run: an ignore file of {str(source)!r} "
            f"names it, or it lies in a folder that stays behind ({', '.join(sorted(_STAY))}).",
            f"Take it out of the ignore file, or list what to leave out in {IGNORE_FILES[0]}, "
            "which comes before .amlignore and .gitignore.",
        )
    size = _check_size(source, files, max_mb)
    destination.mkdir(mode=0o700)
    for relative in files:
        target = destination / relative
        try:
            target.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            _copy(source / relative, target, source)
        except OSError as error:
            raise RunFolderError(
                f"{str(source / relative)!r} cannot be copied into the run: {error.strerror}.",
                f"Make it readable, or name it in {source / IGNORE_FILES[0]}.",
            ) from None
    return size


def _walk(source: Path, inside: str, ignored: Ignores, runs: set[str]) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(source / inside), key=lambda entry: entry.name)
    except OSError as error:
        raise RunFolderError(
            f"{str(source / inside)!r} cannot be read: {error.strerror}."
        ) from None
    for entry in entries:
        relative = os.path.join(inside, entry.name)
        if entry.is_dir(follow_symlinks=False):
            hidden = entry.name in NEVER or (not inside and entry.name in OUTPUT_FOLDERS)
            if hidden or entry.path in runs or _is_environment(entry.path) or _is_run(entry.path):
                continue
            if not ignored(relative + "/"):
                yield from _walk(source, relative, ignored, runs)
        elif not ignored(relative) and (entry.is_symlink() or entry.is_file()):
            if not inside and entry.name in OUTPUT_FOLDERS:
                continue
            yield relative


def _is_environment(folder: str) -> bool:
    return os.path.exists(os.path.join(folder, "pyvenv.cfg"))


def _is_run(folder: str) -> bool:
    return all(os.path.exists(os.path.join(folder, name)) for name in ("run.json", "plan.json"))


def _ignores(source: Path) -> Ignores:
    for name in IGNORE_FILES:
        path = source / name
        if path.is_file():
            import pathspec

            try:
                lines = path.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
                return pathspec.GitIgnoreSpec.from_lines(lines).match_file
            except (OSError, ValueError) as error:
                raise UsageError(f"{path} cannot be used: {error}.") from None
    return lambda relative: False


def _check_size(source: Path, files: list[str], max_mb: int) -> int:
    sizes = {relative: _size(source / relative) for relative in files}
    total = sum(sizes.values())
    if total > max_mb * 1_000_000:
        largest = sorted(sizes, key=lambda relative: sizes[relative], reverse=True)[:3]
        named = ", ".join(f"{name} ({sizes[name] / 1e6:.0f} MB)" for name in largest)
        raise UsageError(
            f"source_directory {str(source)!r} holds {total / 1e6:.0f} MB, but a run takes at most "
            f"{max_mb} MB of it. The largest: {named}.",
            f"Name what is not code in {source / IGNORE_FILES[0]} (a line each, as in .gitignore), "
            "or give data as inputs=...",
        )
    return total


def _size(path: Path) -> int:
    try:
        found = path.lstat()
    except OSError:
        return 0
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _copy(path: Path, target: Path, source: Path) -> None:
    if not path.is_symlink():
        shutil.copy2(path, target)
        return
    link = os.readlink(path)
    resolved = os.path.normpath(path.parent / link)
    within = not os.path.isabs(link) and Path(resolved).is_relative_to(source)
    target.symlink_to(link if within else resolved)
