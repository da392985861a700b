"""Which results may be read: they are pickles, and a pickle runs code.

A result is read only of a run that this user's hpctf has submitted (`hpctf.run_folder.ownership`),
from a regular file that the user owns, in folders that nobody else may write. The folders'
descriptors are held from the check to the reading, so what was checked is what is read: it does no
harm if somebody who may write a folder further up (a group's project folder, say) puts another in
its place meanwhile. A folder further up that everybody may write, without the sticky bit that keeps
everybody else's entries theirs, is refused all the same.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from hpctf.errors import RunFolderError
from hpctf.run_folder.ownership import OTHERS_WRITE, is_sealed

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_RESULT = "_result.pkl"


@contextmanager
def trusted_results(run_folder: Path, ending: str = _RESULT, trust: bool = False) -> Iterator[Path]:
    """Give a path of the run's submitit folder under which its results may be unpickled.

    The path leads to the folder that was checked, whatever happens to its name, and holds as long
    as the context does.

    Parameters
    ----------
    ending
        What the names of the pickles end in that are to be read.
    trust
        Whether the user says that they trust a run that they have not submitted.

    Raises
    ------
    RunFolderError
        The folders or a result are not the user's own, or others may write them.
    """
    run_folder = run_folder.resolve()
    for folder in run_folder.parents:
        mode = folder.stat().st_mode
        if mode & stat.S_IWOTH and not mode & stat.S_ISVTX:
            raise _not_trusted(folder, f"may be written by everybody (mode {stat.S_IMODE(mode):o})")
    with ExitStack() as open_folders:
        run = _open_folder(run_folder, None, open_folders)
        if not trust and not is_sealed(run, run_folder.name):
            raise RunFolderError(
                f"Run {run_folder.name} was not submitted by you, or not from this home: the run's "
                "results are pickles, which run code when read.",
                "Read a copied or restored run's results only if you trust who made them: pass "
                "--trust (trust=True).",
            )
        submitit = _open_folder(run_folder / "submitit", run, open_folders)
        with os.scandir(submitit) as entries:
            for entry in entries:
                if entry.name.endswith(ending):
                    path = run_folder / "submitit" / entry.name
                    found = entry.stat(follow_symlinks=False)
                    if not stat.S_ISREG(found.st_mode):
                        raise _not_trusted(path, "is a link, or no file at all")
                    _check(path, found)
        yield Path(f"/proc/self/fd/{submitit}")


def _open_folder(folder: Path, parent: int | None, open_folders: ExitStack) -> int:
    """Open a folder, by its name in `parent` if that is given, and check it."""
    try:
        descriptor = os.open(folder if parent is None else folder.name, _FOLDER, dir_fd=parent)
    except OSError as error:
        raise _not_trusted(folder, f"is no folder to read ({error.strerror})") from None
    open_folders.callback(os.close, descriptor)
    _check(folder, os.fstat(descriptor))
    return descriptor


def _check(path: Path, found: os.stat_result) -> None:
    if found.st_uid != os.geteuid():
        raise _not_trusted(path, "belongs to somebody else")
    if found.st_mode & OTHERS_WRITE:
        raise _not_trusted(path, f"may be written by others (mode {stat.S_IMODE(found.st_mode):o})")


def _not_trusted(path: Path, why: str) -> RunFolderError:
    return RunFolderError(
        f"{str(path)!r} {why}: the run's results are pickles, which run code when read.",
        "Read results only as the user who submitted the run, from folders that nobody else may "
        "write: a site's umask of 0022 or 0027 lets others read them, 0002 or 0007 lets the group "
        "write them.",
    )
