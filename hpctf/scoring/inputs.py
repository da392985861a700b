"""What a person names to be scored: files, folders of them, and patterns, in a settled order."""

from __future__ import annotations

import glob
import os
from collections.abc import Sequence
from pathlib import Path

from hpctf.common.absence import problem_of
from hpctf.common.files import read_json
from hpctf.errors import UsageError, did_you_mean, shown

ENDINGS = (".npy", ".npz", ".csv", ".parquet")
"""Files of rows, by their names' endings."""


def input_files(named: Sequence[str | os.PathLike[str]]) -> list[str]:
    """Return the absolute paths of the files that are named: those of a folder or a pattern sorted
    by their names, each file as often as it is named.

    Raises
    ------
    UsageError
        Something is not there, is empty, or holds no rows that hpctf reads.
    """
    found: list[str] = []
    for one in named:
        found += _files_of(os.path.abspath(os.path.expanduser(os.fspath(one))))
    if not found:
        raise UsageError("There is nothing to score: no input is named.", "hpctf score --help")
    for path in found:
        _check(path)
    return found


def _files_of(path: str) -> list[str]:
    if os.path.isdir(path):
        _check_readable(path)
        inside = sorted(os.path.join(path, name) for name in os.listdir(path))
        files = [name for name in inside if name.lower().endswith(ENDINGS)]
        if not files:
            raise UsageError(
                f"The folder {shown(path)} has no files that end in {_ENDINGS}.",
                "Name the files themselves, or convert them to one of these formats.",
            )
        return files
    if os.path.lexists(path):
        return [path]
    matches = sorted(glob.glob(path, recursive=True)) if glob.has_magic(path) else []
    files = [name for name in matches if not os.path.isdir(name)]
    if not files:
        problem = problem_of(path)
        if problem not in ("does not exist", None):
            raise UsageError(f"Cannot score {shown(path)}: it {problem}.", "Check the path.")
        what = "No file matches" if glob.has_magic(path) else "There is no file"
        near = ""
        if os.path.isdir(os.path.dirname(path)):
            near = did_you_mean(os.path.basename(path), os.listdir(os.path.dirname(path)))
        raise UsageError(f"{what} {shown(path)}.{near}", "Check the path of the inputs.")
    return files


def _check(path: str) -> None:
    if not path.lower().endswith(ENDINGS):
        raise UsageError(
            f"Cannot score {shown(path)}: its name does not end in {_ENDINGS}.",
            "Convert it to one of them; images and the like to an array, a row for each.",
        )
    _check_readable(path)
    if os.path.isdir(path):
        raise UsageError(
            f"Cannot score {shown(path)}: it is a folder, although its name ends like a file's.",
            "Name the files in it.",
        )
    if not os.path.getsize(path):
        raise UsageError(f"Cannot score {shown(path)}: the file is empty.", "Leave it out.")


def _check_readable(path: str) -> None:
    problem = problem_of(path)
    if problem is not None:
        raise UsageError(
            f"Cannot score {shown(path)}: it {problem}.", "Name files that you may read."
        )


def output_folder(out: str | os.PathLike[str], replaces: Sequence[str] = ()) -> str:
    """Return the absolute path of the folder to write, which must not be there yet.

    Parameters
    ----------
    replaces
        Runs whose output may be there: it is replaced.

    Raises
    ------
    UsageError
        It is there, or cannot be made.
    """
    path = os.path.abspath(os.path.expanduser(os.fspath(out)))
    if os.path.lexists(path) and _run_of(path) not in replaces:
        raise UsageError(
            f"The output {shown(path)} already exists, and nothing is overwritten.",
            "Name another folder with --out, or remove it.",
        )
    above = Path(path).parent
    if not above.is_dir():
        raise UsageError(
            f"There is no folder {shown(str(above))} to write the output to.",
            "Make the folder first, or name another one with --out.",
        )
    if not os.access(above, os.W_OK | os.X_OK):
        raise UsageError(
            f"You may not write to {shown(str(above))}, where the output is to be.",
            "Name another folder with --out.",
        )
    return path


def _run_of(out: str) -> str | None:
    """Return the run that has written an output."""
    try:
        return str(read_json(Path(out, "rows.json"))["run"])
    except (OSError, ValueError, KeyError, TypeError):
        return None


_ENDINGS = ", ".join(ENDINGS[:-1]) + f" or {ENDINGS[-1]}"
