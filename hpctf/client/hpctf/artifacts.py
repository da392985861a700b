"""Files that a run keeps: where an artifact's name leads, and how it is put there."""

import contextlib
import os
import re
import shutil
from typing import Any, Iterator, List, Tuple

ROOMS = ("outputs", "logs")
"""Folders of a run that a name may begin with; all other names lie in `ARTIFACTS`."""
ARTIFACTS = "artifacts"


def place_of(folder: str, name: str) -> str:
    """Return the path of the artifact `name` of the run in `folder`.

    Raises
    ------
    ValueError
        The name leads out of the run.
    """
    parts = name.replace(os.sep, "/").split("/")
    if not name or name.startswith("/") or ".." in parts:
        raise ValueError(
            f"The name of a run's file is {name!r}, but must be a path within the run, such as "
            "'outputs/model.keras'."
        )
    clean = [part for part in parts if part not in ("", ".")]
    room = [] if clean[0] in ROOMS and len(clean) > 1 else [ARTIFACTS]
    return os.path.join(folder, *room, *clean)


def keep_file(folder: str, name: str, source: Any) -> str:
    """Copy a file, or what a stream still holds, into the run, whole or not at all; return where
    it lies."""
    target = place_of(folder, name)
    if not hasattr(source, "read"):
        source = os.fspath(source)
        if not os.path.isfile(source):
            raise FileNotFoundError(f"upload_file: there is no file {source!r}.")
        if os.path.exists(target) and os.path.samefile(source, target):
            return target  # ./outputs is the run's own folder already
    os.stat(folder)  # a run that was removed stays so
    copy_whole(source, target)
    return target


def copy_whole(source: Any, target: str) -> None:
    """Copy a file or a stream to `target`, which is whole or not there at all."""
    with _whole(target) as temporary:
        if hasattr(source, "read"):
            _copy_stream(source, temporary)
        else:
            shutil.copyfile(source, temporary)


@contextlib.contextmanager
def _whole(target: str) -> Iterator[str]:
    """Give a path to write to, which takes the place of `target` once it is whole."""
    os.makedirs(os.path.dirname(target) or ".", exist_ok=True)
    temporary = f"{target}.{os.urandom(6).hex()}.tmp"
    try:
        yield temporary
        os.replace(temporary, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(temporary)


def names(folder: str) -> List[str]:
    """Return the names of the files of the run in `folder`, sorted."""
    found = []
    for room in (*ROOMS, ARTIFACTS):
        top = os.path.join(folder, room)
        base = top if room == ARTIFACTS else folder
        for place, _, files in os.walk(top):
            found += [os.path.relpath(os.path.join(place, file), base) for file in files]
    return sorted(found)


def keep_folder(folder: str, name: str, source: Any) -> int:
    """Copy all files below `source` to below `name`, and return how many there are."""
    source = os.fspath(source)
    if not os.path.isdir(source):
        raise NotADirectoryError(f"upload_folder: there is no folder {source!r}.")
    number = 0
    for place, _, files in os.walk(source):
        for file in files:
            path = os.path.join(place, file)
            keep_file(folder, os.path.join(name, os.path.relpath(path, source)), path)
            number += 1
    return number


def image_name(name: str, mark: Any, rank: str, ending: str = ".png") -> str:
    """Return what an image is called among the run's files: that of rank ``""`` has no folder."""
    safe = re.sub(r"[^\w.-]+", "_", name).strip(".") or "image"
    return "/".join(filter(None, ["images", rank, f"{safe}_{mark}{ending}"]))


def save_figure(folder: str, name: str, figure: Any) -> str:
    """Save a matplotlib figure, or what pyplot has drawn, as an artifact; return its place."""
    target = place_of(folder, name)
    os.stat(folder)
    with _whole(target) as temporary:
        figure.savefig(temporary, format="png")
    return target


def split_ending(path: str) -> Tuple[str, str]:
    """Return a file's name and its ending, ``.png`` if it has none."""
    base, ending = os.path.splitext(os.path.basename(path))
    return base, ending or ".png"


def _copy_stream(stream: Any, target: str) -> None:
    with open(target, "wb") as kept:
        while True:
            part = stream.read(1 << 20)
            if not part:
                return
            kept.write(part.encode("utf-8") if isinstance(part, str) else part)
