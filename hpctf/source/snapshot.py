"""Source folder → run folder: what goes with a run, and what does not."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Container, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path

from hpctf.common.command_line import LONGEST_PATH
from hpctf.common.files import PRIVATE_UMASK
from hpctf.errors import RunFolderError, UsageError
from hpctf.site.yaml_files import NotReadable, named, printable, read_text
from hpctf.source.copying import IGNORE_FILE, OUTPUTS, Copier, Entry, cannot_read

NEVER = {".git", ".hg", ".svn", "__pycache__", ".ipynb_checkpoints", "node_modules"}
"""Folders that never go with a run, at any depth; nor do virtual environments."""

OUTPUT_FOLDERS = {OUTPUTS, "logs"}
"""Names at the top that are a run's own, as in Azure ML: old ones stay behind, be they folders,
files or links."""

_STAY = NEVER | OUTPUT_FOLDERS

IGNORE_FILES = (IGNORE_FILE, ".amlignore", ".gitignore")
"""The first of these at the top of the source folder says what else to leave out."""

DEEPEST = 200
"""Folders within folders. Python removes a folder by a call for each level."""

Ignores = Callable[[str], bool]


def take_snapshot(
    source: Path,
    destination: Path,
    max_mb: int,
    needed: str | None = None,
    umask: int = PRIVATE_UMASK,
    names: Container[str] | None = None,
) -> int:
    """Copy what goes with a run and return its size in bytes.

    Files keep their permissions and times; empty folders go too. A link stays a link: to what
    goes with the run it leads within the copy, to all else to the same place as before, so that a
    link to a data set is not followed. Sockets, pipes and devices are left out, unopened.

    Each file is copied as it was at one moment; one that is written meanwhile is copied again. A
    file that vanishes before its turn is left out.

    Parameters
    ----------
    destination
        The folder to make, in a run folder that exists; runs within `source` are left out.
    max_mb
        The largest size, in megabytes. A file counts with its whole length, holes included.
    needed
        The entry script, relative to `source`.
    umask
        What the copy's folders are made with (`hpctf.source.copying.Copier`).
    names
        Of what goes with a run these alone, relative to `source`.

    Raises
    ------
    UsageError
        The folder is larger than `max_mb`, or `needed` is left out. Nothing has been copied then,
        unless the folder grew meanwhile.
    RunFolderError
        A file cannot be read or written, or changed each time that it was copied.
    """
    source = source.resolve()
    found = _walk(source, _ignores(source), _inodes(destination.resolve().parents[:3]))
    entries = [entry for entry in found if names is None or entry.name in names]
    if needed is not None:
        _check_needed(source, {entry.name for entry in entries}, needed)
    _check_paths(destination, entries)
    check_size = partial(_check_size, source, max_mb)
    copier = Copier(source, destination, entries, check_size, umask)
    check_size(copier.sizes)
    if needed in copier.copy():
        raise _vanished(source / str(needed))
    return sum(copier.sizes.values())


def contents(snapshot: Path) -> dict[str, list[int]]:
    """Return what is in a snapshot by relative name: size and time of change (ns) of each file,
    nothing of links and folders."""
    found: dict[str, list[int]] = {}
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        for entry in _list(snapshot, inside):
            name = os.path.join(inside, entry.name)
            found[name] = []
            if entry.is_dir(follow_symlinks=False):
                waiting.append(name)
            elif entry.is_file(follow_symlinks=False):
                status = entry.stat(follow_symlinks=False)
                found[name] = [status.st_size, status.st_mtime_ns]
    return found


def _walk(source: Path, ignored: Ignores, runs: set[tuple[int, int]]) -> Iterator[Entry]:
    """Yield what goes with a run, folders before what is in them."""
    waiting = [""]
    while waiting:
        inside = waiting.pop()
        for entry in _list(source, inside):
            name = os.path.join(inside, entry.name)
            if not inside and entry.name in OUTPUT_FOLDERS:
                continue
            if entry.is_dir(follow_symlinks=False):
                if entry.name in NEVER or ignored(name + "/") or _stays(entry.path, runs):
                    continue
                _check_depth(source, name)
                waiting.append(name)
                yield Entry(name, is_folder=True)
            elif not ignored(name) and (entry.is_symlink() or entry.is_file()):
                yield Entry(name, size=_size(entry))


def _list(source: Path, inside: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(source / inside) as entries:
            return sorted(entries, key=lambda entry: entry.name)
    except (FileNotFoundError, NotADirectoryError) as error:
        if inside:
            return []  # it has gone since the folder above was read
        raise cannot_read(source, error) from None
    except OSError as error:
        raise cannot_read(source / inside, error) from None


def _stays(folder: str, runs: set[tuple[int, int]]) -> bool:
    """Whether a folder holds no code: runs, one run, or a virtual environment."""
    if _inodes([folder]) & runs or os.path.exists(os.path.join(folder, "pyvenv.cfg")):
        return True
    return all(os.path.exists(os.path.join(folder, name)) for name in ("run.json", "plan.json"))


def _inodes(folders: Iterable[str | Path]) -> set[tuple[int, int]]:
    """Return what folders are known by, whatever path leads to them."""
    found = set()
    for folder in folders:
        try:
            status = os.stat(folder)
        except OSError:
            continue
        found.add((status.st_dev, status.st_ino))
    return found


def _size(entry: os.DirEntry[str]) -> int:
    try:
        found = entry.stat(follow_symlinks=False)
    except OSError:
        return 0  # gone, or not to be read: the copy will tell
    return found.st_size if stat.S_ISREG(found.st_mode) else 0


def _ignores(source: Path) -> Ignores:
    for name in IGNORE_FILES:
        path = source / name
        if os.path.isfile(path):
            import pathspec

            try:
                lines = read_text(path).split("\n")
                return pathspec.GitIgnoreSpec.from_lines(lines).match_file
            except (OSError, ValueError) as error:
                line = error.line if isinstance(error, NotReadable) else None
                raise UsageError(
                    f"{named(path, line)} cannot be used: {error}.",
                    "Correct that line: the patterns are those of .gitignore.",
                ) from None
    return lambda relative: False


def _check_needed(source: Path, names: set[str], needed: str) -> None:
    """Refuse to leave the entry script out; it may also be reached by a link to its folder."""
    folders = [str(folder) for folder in Path(needed).parents]
    if needed in names or any(os.path.islink(source / name) for name in names & set(folders)):
        return
    if not os.path.lexists(source / needed):
        raise _vanished(source / needed)
    raise UsageError(
        f"entry_script {needed!r} does not go with the run: an ignore file of {str(source)!r} "
        f"names it, or it lies in a folder that stays behind ({', '.join(sorted(_STAY))}).",
        f"Take it out of the ignore file, or list what to leave out in {IGNORE_FILES[0]}, "
        "which comes before .amlignore and .gitignore.",
    )


def _vanished(script: Path) -> RunFolderError:
    return RunFolderError(
        f"entry_script {str(script)!r} vanished while the source folder was copied.",
        "Put it back, and submit again.",
    )


def _check_depth(source: Path, folder: str) -> None:
    if folder.count(os.sep) >= DEEPEST:
        top = folder.split(os.sep)[0]
        raise UsageError(
            f"source_directory {str(source)!r} holds folders more than {DEEPEST} deep, in {top!r}.",
            f"Name what is not code in {source / IGNORE_FILE}.",
        )


def _check_paths(destination: Path, entries: list[Entry]) -> None:
    """Refuse names that are too long only in the run folder, before anything is copied."""
    room = LONGEST_PATH - len(os.fsencode(destination)) - 1
    for entry in entries:
        if len(os.fsencode(entry.name)) > room:
            raise UsageError(
                f"{entry.name[:80]!r}... has a path so long that its copy in "
                f"{str(destination)!r} would have more than {LONGEST_PATH} bytes.",
                "Choose a runs root with a shorter path (HPCTF_RUNS_ROOT), or name the file in "
                f"{IGNORE_FILE}.",
            )


def _check_size(source: Path, max_mb: int, sizes: Mapping[str, int]) -> None:
    total = sum(sizes.values())
    if total > max_mb * 1_000_000:
        largest = sorted(sizes, key=lambda name: sizes[name], reverse=True)[:3]
        named = ", ".join(f"{printable(name)} ({sizes[name] / 1e6:.0f} MB)" for name in largest)
        raise UsageError(
            f"source_directory {str(source)!r} holds {total / 1e6:.0f} MB, but a run takes at most "
            f"{max_mb} MB of it. The largest: {named}.",
            f"Name what is not code in {source / IGNORE_FILE} (a line each, as in .gitignore), "
            "or give data as inputs=...",
        )
