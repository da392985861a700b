"""Where a model comes from that is to be registered: the files that belong to it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import BinaryIO

from hpctf.client.hpctf.within import NotWithin
from hpctf.common.absence import problem_of
from hpctf.common.command_line import check_path
from hpctf.errors import UsageError, did_you_mean
from hpctf.models.onnx_files import is_onnx, model_in, weight_files
from hpctf.run_folder.layout import RunFolder
from hpctf.run_folder.ownership import open_of_run
from hpctf.runs.kept_files import names_of, path_of


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
        It is missing or empty, or contains something other than files.
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
    if not top.is_dir():
        return _with_weights(top.name, _regular(top), lambda name: _beside(top, name))
    found: dict[str, Path] = {}
    for place in [top] if children is None else [_child(top, name) for name in children]:
        for file in below(place):
            found[f"{top.name}/{file.relative_to(top).as_posix()}"] = file
    if not found:
        raise UsageError(
            f"The model's folder {os.fspath(path)!r} holds no files.",
            "Name the folder or file that holds the saved model.",
        )
    return _with_all_weights(Source(top.name, found))


def _beside(model: Path, name: str) -> Path | None:
    """Return the file that holds weights of a model, if it is there."""
    path = model.parent / name
    return _regular(path) if os.path.lexists(path) else None


def _with_weights(name: str, model: Path, find: Callable[[str], Path | None]) -> Source:
    """Return the model that a file is; the folder of one whose weights lie in files beside it,
    which `find` finds by their paths there."""
    weights = _weights(name, model) if is_onnx(name) else []
    if not weights:
        return Source(name, {name: model})
    folder = Path(name).stem
    files = {f"{folder}/{name}": model}
    for one in weights:
        path = find(one)
        if path is None:
            raise _without(name, one)
        files[f"{folder}/{one}"] = path
    return Source(folder, files)


def _with_all_weights(source: Source) -> Source:
    """Return the model that a folder is, unless it is an ONNX model of whose weights some are not
    in the folder."""
    inside = model_in(source.path, source.files)
    for one in _weights(inside, source.files[inside]) if inside else []:
        if f"{source.path}/{one}" not in source.files:
            raise _without(str(inside), one)
    return source


def _weights(name: str, model: Path) -> list[str]:
    """Return where an ONNX model's weights lie, relative to its folder, if not in the file."""
    with opened(model) as stream:
        found = weight_files(stream)
    for one in found:
        if os.path.isabs(one) or os.path.normpath(one).split("/")[0] == "..":
            raise UsageError(
                f"The model {name!r} has weights in {one!r}, outside of its folder.",
                "Save it again with its weights beside it: onnx.save(model, path, "
                f"save_as_external_data=True, location={name + '.data'!r}).",
            )
    return [os.path.normpath(one) for one in found]


def _without(name: str, weights: str) -> UsageError:
    return UsageError(
        f"The model {name!r} has weights in {weights!r}, which is not beside it.",
        "Put that file into the model's folder.",
    )


def _child(top: Path, name: str) -> Path:
    place = Path(os.path.normpath(top / name))
    if not place.is_relative_to(top) or not os.path.lexists(place):
        raise UsageError(
            f"The model's folder {str(top)!r} has no {name!r}.",
            "List its files, and name one of them.",
        )
    return place


def below(place: Path) -> Iterator[Path]:
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
        return _with_all_weights(Source(name, files, is_over))

    def beside(one: str) -> Path | None:
        kept = f"{parent}{slash}{one}"
        return path_of(folder, kept) if kept in names else None

    return replace(_with_weights(name, path_of(folder, wanted), beside), may_link=is_over)


def opened(source: Path) -> BinaryIO:
    """Open a file of a model for reading, and nothing else in its place."""
    try:
        return open_of_run(source)
    except NotWithin as error:
        raise UsageError(
            f"{str(source)!r} {error.strerror}.", "Make it readable for you."
        ) from None
