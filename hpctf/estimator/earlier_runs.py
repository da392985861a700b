"""How an estimator names earlier runs: those that it waits for, and those whose files it reads.

Which runs are meant is known once the runs root is (`hpctf.runs.following`).
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import PurePosixPath
from typing import Any, NamedTuple

from hpctf.errors import UsageError, did_you_mean, shown

DEPENDENCIES = {"ok": "afterok", "any": "afterany", "failed": "afternotok"}
"""How an earlier run may have to end, and sbatch's word for it (sbatch(1), ``--dependency``)."""

_LAST = "@last"
_FORM = "Name a run by its id, a unique prefix of it, @last or its folder, such as RUN or RUN:any."


class Condition(NamedTuple):
    """An earlier run by its name, and how it must have ended: a key of `DEPENDENCIES`."""

    run: str
    when: str = "ok"

    def __str__(self) -> str:
        return f"{self.run}:{self.when}"

    @classmethod
    def parse(cls, text: str) -> Condition:
        """Return the condition that ``RUN[:ok|any|failed]`` stands for.

        Raises
        ------
        UsageError
            No run is named, or there is no such condition.
        """
        run, colon, when = text.rpartition(":")
        if not colon or os.sep in when:
            run, when = text, "ok"
        if when not in DEPENDENCIES:
            raise UsageError(
                f"after: {shown(text)} ends in {shown(when)}, but a run is waited for until it has "
                f"ended as ok, any or failed.{did_you_mean(when, list(DEPENDENCIES))}",
                "Use RUN or RUN:ok (it completed), RUN:any (it ended), or RUN:failed.",
            )
        if not run:
            raise UsageError(f"after: {shown(text)} names no run.", _FORM)
        return cls(run, when)


class FileOfRun(NamedTuple):
    """A file or folder in an earlier run's folder, as ``@RUN/PATH`` names it."""

    run: str
    path: str

    @classmethod
    def parse(cls, parameter: str, text: str) -> FileOfRun | None:
        """Return what ``@RUN/PATH`` names; None for any other path.

        Raises
        ------
        UsageError
            The run or the path is missing, or the path leads out of the run's folder.
        """
        if not text.startswith("@"):
            return None
        head, _, path = text.partition("/")
        run = head if head == _LAST else head[1:]
        parts = PurePosixPath(path).parts
        if not run or not parts or parts[0] == "/" or ".." in parts:
            raise UsageError(
                f"{parameter} is {shown(text)}, which does not name a file of a run.",
                "Use @RUN/outputs/FILE, where RUN is a run's id, a unique prefix of it, or last; "
                "for a file whose name begins with @, use ./@NAME.",
            )
        return cls(run, "/".join(parts))


def check_after(parameter: str, after: object) -> list[str]:
    """Return the runs to wait for, each as ``RUN:ok``, ``RUN:any`` or ``RUN:failed``."""
    return [str(Condition.parse(_named(parameter, one))) for one in _listed(after)]


def _listed(after: object) -> Iterable[Any]:
    if after is None:
        return ()
    is_one = isinstance(after, (str, os.PathLike)) or not isinstance(after, Iterable)
    return (after,) if is_one else after  # type: ignore[return-value]


def _named(parameter: str, run: Any) -> str:
    """Return the words that name a run: of a `hpctf.Run`, its folder."""
    folder = getattr(run, "folder", None)
    path = getattr(folder, "path", run)
    if not isinstance(path, (str, os.PathLike)):
        raise UsageError(f"{parameter} must name runs, but has {shown(run)}.", _FORM)
    return os.fspath(path)
