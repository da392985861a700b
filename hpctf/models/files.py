"""A model's files: where they come from, how they are taken over, and whether they are still what
was registered."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from hpctf.client.hpctf.within import NotWithin
from hpctf.common.absence import problem_of
from hpctf.common.command_line import check_path
from hpctf.common.files import follow_umask, make_folder
from hpctf.common.folders import remove_tree
from hpctf.common.numbered import hidden_name
from hpctf.errors import UnreadableModel, UsageError, did_you_mean
from hpctf.models.onnx_files import is_onnx, weight_files
from hpctf.models.record import File, Record
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.ownership import open_of_run
from hpctf.runs.kept_files import names_of, path_of

FILES = "files"
"""Folder of a version's, in which the model's file or folder lies."""

_CHUNK = 1 << 20


@dataclass(frozen=True)
class Source:
    """A model that is to be registered.

    Parameters
    ----------
    path
        What its file or folder is called.
    files
        Where each file lies, by its name: `path`, or what is below it.
    may_link
        Whether its files stay as they are, so that they need no copies: those of a run that is
        over.
    """

    path: str
    files: dict[str, Path]
    may_link: bool = False


def of_path(path: str | os.PathLike[str], children: Iterable[str] | None = None) -> Source:
    """Return the model that a file or folder is; with `children`, only these files and folders.

    Raises
    ------
    UsageError
        It is not there, is empty, or holds what is no file.
    """
    check_path("The model", path)
    top = Path(os.path.abspath(path))
    problem = problem_of(top)
    if problem is not None:
        raise UsageError(
            f"The model {os.fspath(path)!r} {problem}.",
            "Check the path; hpctf files RUN lists what a run has written.",
        )
    if children is not None and not top.is_dir():
        raise UsageError(f"child_paths needs a folder, and {os.fspath(path)!r} is a file.")
    found: dict[str, Path] = {}
    for place in [top] if children is None else [_child(top, name) for name in children]:
        for file in _below(place):
            below = file.relative_to(top).as_posix()
            found[top.name if below == "." else f"{top.name}/{below}"] = file
    if not found:
        raise UsageError(
            f"The model's folder {os.fspath(path)!r} holds no files.",
            "Name the folder or file that holds the saved model.",
        )
    if top.is_dir():
        return Source(top.name, found)
    return _with_weights(top.name, top, lambda name: _beside(top, name))


def _beside(model: Path, name: str) -> Path | None:
    """Return the file that holds weights of a model, if it is there."""
    path = model.parent / name
    return _regular(path) if os.path.lexists(path) else None


def _with_weights(name: str, model: Path, find: Callable[[str], Path | None]) -> Source:
    """Return the model that a file is; the folder of one whose weights lie in files beside it,
    which `find` finds by their paths there."""
    if not is_onnx(name):
        return Source(name, {name: model})
    with _opened(model) as stream:
        weights = weight_files(stream)
    if not weights:
        return Source(name, {name: model})
    folder = Path(name).stem
    files = {f"{folder}/{name}": model}
    for one in weights:
        inside = os.path.normpath(one)
        if os.path.isabs(inside) or inside.split("/")[0] == "..":
            raise UsageError(
                f"The model {name!r} has weights in {one!r}, outside of its folder.",
                "Save it again with its weights beside it: onnx.save(model, path, "
                f"save_as_external_data=True, location={name + '.data'!r}).",
            )
        path = find(inside)
        if path is None:
            raise UsageError(
                f"The model {name!r} has weights in {one!r}, which is not beside it.",
                "Put that file into the model's folder.",
            )
        files[f"{folder}/{inside}"] = path
    return Source(folder, files)


def _child(top: Path, name: str) -> Path:
    place = Path(os.path.normpath(top / name))
    if not place.is_relative_to(top) or not os.path.lexists(place):
        raise UsageError(
            f"The model's folder {str(top)!r} has no {name!r}.",
            "List its files, and name one of them.",
        )
    return place


def _below(place: Path) -> Iterator[Path]:
    """Yield the files of a folder, or the file itself; a link stands for the file it leads to."""
    if not place.is_dir():
        yield _regular(place)
        return
    for folder, folders, names in os.walk(place, onerror=_refuse_unread):
        for name in folders:
            if os.path.islink(os.path.join(folder, name)):
                raise UsageError(
                    f"The model holds a link to a folder: {os.path.join(folder, name)!r}.",
                    "Put a copy in its place, or name what belongs to the model (child_paths).",
                )
        for name in names:
            yield _regular(Path(folder, name))


def _refuse_unread(error: OSError) -> None:
    """Refuse a folder that cannot be listed: a model would be registered without what is in it."""
    problem = problem_of(error.filename) or f"cannot be read: {error.strerror}"
    raise UsageError(
        f"The model's folder {error.filename!r} {problem}.",
        "Ask its owner to give you access (chmod), or name what belongs to the model "
        "(child_paths).",
    )


def _regular(path: Path) -> Path:
    problem = problem_of(path)
    if problem is not None:
        raise UsageError(
            f"Cannot register the model: {str(path)!r} {problem}.",
            "Put a file that you may read in its place, or remove it.",
        )
    return path


def of_run(folder: RunFolder, path: str, is_over: bool) -> Source:
    """Return the model that a run has kept under a name, such as ``outputs/model``.

    Raises
    ------
    UsageError
        The run has no file or folder of that name.
    """
    wanted = path.strip("/").removeprefix("./")
    names = names_of(folder)
    chosen = [name for name in names if name == wanted or name.startswith(f"{wanted}/")]
    if not chosen or not wanted:
        above = {str(one) for name in names for one in Path(name).parents} - {"."}
        known = sorted({*names, *above})
        raise UsageError(
            f"Run {folder.id} has no file or folder {path!r}.{did_you_mean(path, known)}",
            "Its files: " + (", ".join(names[:8]) or "none"),
        )
    parent, slash, name = wanted.rpartition("/")
    if chosen != [wanted]:
        files = {name + one[len(wanted) :]: path_of(folder, one) for one in chosen}
        return Source(name, files, is_over)

    def beside(one: str) -> Path | None:
        kept = f"{parent}{slash}{one}"
        return path_of(folder, kept) if kept in names else None

    return replace(_with_weights(name, path_of(folder, wanted), beside), may_link=is_over)


def take_over(source: Source, into: Path, umask: int) -> dict[str, File]:
    """Copy or link a model's files into a version's folder, and return what they are.

    Raises
    ------
    UsageError
        A file changes meanwhile.
    OSError
        The file system refuses.
    """
    top = into / FILES
    make_folder(top, umask)
    for name in sorted({str(Path(name).parent) for name in source.files} - {"."}):
        _make_folders(top, name, umask)
    return {
        name: _take(path, top / name, umask, source.may_link)
        for name, path in sorted(source.files.items())
    }


def _make_folders(top: Path, name: str, umask: int) -> None:
    for part in [*reversed(Path(name).parents), Path(name)]:
        if not (top / part).is_dir():
            make_folder(top / part, umask)


def _take(source: Path, target: Path, umask: int, may_link: bool) -> File:
    if may_link and _may_be_linked(source, umask):
        try:
            os.link(source, target, follow_symlinks=False)
        except OSError:
            pass  # another file system, or one without hard links
        else:
            with open(target, "rb") as linked:
                return _whole(source, linked, lambda block: None)
    with _opened(source) as stream, open(target, "xb") as copy:
        found = _whole(source, stream, copy.write)
        copy.flush()
        os.fsync(copy.fileno())
    follow_umask(target, umask)
    return found


def _opened(source: Path) -> BinaryIO:
    try:
        return open_of_run(source)
    except NotWithin as error:
        raise UsageError(
            f"{str(source)!r} {error.strerror}.", "Make it readable for you."
        ) from None


def _may_be_linked(source: Path, umask: int) -> bool:
    """Whether a file is the person's own, and has the mode that its copy would have.

    The file of somebody else stays theirs to change; and a link's mode is that of both.
    """
    found = source.lstat()
    mode = stat.S_IMODE(found.st_mode)
    return stat.S_ISREG(found.st_mode) and found.st_uid == os.geteuid() and mode == 0o666 & ~umask


def _whole(source: Path, stream: BinaryIO, write: Callable[[bytes], object]) -> File:
    """Read a file to its end, and return what it is; one that changes meanwhile is refused."""
    before = os.fstat(stream.fileno())
    digest = hashlib.sha256()
    size = 0
    while block := stream.read(_CHUNK):
        digest.update(block)
        write(block)
        size += len(block)
    after = os.fstat(stream.fileno())
    if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, size):
        raise UsageError(
            f"{str(source)!r} was written while it was registered: no version was made.",
            "Register the model once the run has ended: hpctf wait RUN",
        )
    return File(size, digest.hexdigest())


def verify(folder: Path, record: Record) -> Path:
    """Return the path of a version's file or folder, once its files are what was registered.

    Raises
    ------
    UnreadableModel
        A file is missing, is one too many, or has changed.
    """
    top = folder / FILES
    _check_names(folder, record)
    for name, wanted in record.files.items():
        _check_file(folder, name, wanted, lambda block: None)
    return top / record.path


def copy_out(folder: Path, record: Record, to: Path, exist_ok: bool = False) -> Path:
    """Copy a version's file or folder into a folder, verified, and return where it lies now.

    Nothing is there under its name before all of it is.

    Raises
    ------
    UsageError
        Something of that name is there, and `exist_ok` is not set.
    UnreadableModel
        A file is not what was registered.
    """
    target = to / record.path
    if os.path.lexists(target) and not exist_ok:
        raise UsageError(
            f"{str(target)!r} exists already.", "Pass --force (exist_ok=True) to replace it."
        )
    _check_names(folder, record)
    to.mkdir(parents=True, exist_ok=True)
    beside = to / hidden_name()
    beside.mkdir()
    try:
        for name, wanted in record.files.items():
            (beside / name).parent.mkdir(parents=True, exist_ok=True)
            with open(beside / name, "xb") as copy:
                _check_file(folder, name, wanted, copy.write)
        _put(beside / record.path, target)
    finally:
        remove_tree(beside)
    return target


def _put(made: Path, target: Path) -> None:
    """Put a file or folder in the place of what is there, file by file in a folder that is."""
    if not made.is_dir() or not os.path.lexists(target):
        os.replace(made, target)
        return
    for file in _below(made):
        place = target / file.relative_to(made)
        place.parent.mkdir(parents=True, exist_ok=True)
        os.replace(file, place)


def _check_names(folder: Path, record: Record) -> None:
    """Check that a version has the files of its record and no others; links are none."""
    found = set()
    top = str(folder / FILES)
    for place, folders, names in os.walk(top):
        linked = [name for name in folders if os.path.islink(os.path.join(place, name))]
        found |= {os.path.relpath(os.path.join(place, name), top) for name in [*names, *linked]}
    for name in sorted(record.files.keys() ^ found):
        raise _changed(folder, name, "is missing" if name in record.files else "was put there")


def _check_file(folder: Path, name: str, wanted: File, write: Callable[[bytes], object]) -> None:
    path = folder / FILES / name
    try:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        stream = os.fdopen(os.open(path, flags), "rb")
    except OSError as error:
        raise _changed(folder, name, f"cannot be read ({error.strerror})") from None
    with stream:
        found = os.fstat(stream.fileno())
        if not stat.S_ISREG(found.st_mode):
            raise _changed(folder, name, "is no longer a file")
        if found.st_size != wanted.bytes:
            raise _changed(folder, name, f"has {found.st_size} bytes, not {wanted.bytes}")
        digest = hashlib.sha256()
        while block := stream.read(_CHUNK):
            digest.update(block)
            write(block)
    if digest.hexdigest() != wanted.sha256:
        raise _changed(folder, name, "has other content (SHA-256)")


def _changed(folder: Path, name: str, how: str) -> UnreadableModel:
    return UnreadableModel(
        f"Model {folder.parent.name}:{folder.name} is not what was registered: its file {name!r} "
        f"{how}.",
        f"Register it again, and remove this version: hpctf models rm "
        f"{folder.parent.name}:{folder.name}",
    )


def free(folder: Path) -> None:
    """Remove all that a version's folder holds but what says that it was removed."""
    for path in folder.iterdir():
        if path.name != REMOVED:
            if path.is_dir() and not path.is_symlink():
                remove_tree(path)
            else:
                path.unlink()


REMOVED = "removed.json"
"""What is left of a version that was removed: its number is never given to another one."""
