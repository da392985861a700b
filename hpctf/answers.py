"""Answers of programs that may say more than they were asked: read between marks, or not at all.

A site's ``sitecustomize``, a ``.pth`` file, a package that is imported, or a wrapper around an
interpreter may print before the answer and after it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

MARK = "hpctf-answer:"
"""Begins the line on which a program of ours prints its answer as JSON, on a line of its own."""

PRINT = f"print('\\n{MARK}' + json.dumps(answer), flush=True)"
"""Python that prints ``answer``; it needs ``json``."""

_ERROR = re.compile(r"(?:^|:)\s*ERROR:", re.MULTILINE)
_TYPES = re.compile(r"MPI (?:plugin )?types are\.*")


def answer_of(said: str) -> Any:
    """Return the answer in what a program printed.

    Raises
    ------
    ValueError
        There is none.
    """
    lines = [line for line in said.splitlines() if line.startswith(MARK)]
    if not lines:
        raise ValueError("no answer")
    return json.loads(lines[-1][len(MARK) :])


def modules_failed(code: int, said: str, modules: Sequence[str], loaded: str) -> bool:
    """Whether loading modules has failed.

    Lmod and Environment Modules since 4 end with a failure then. Environment Modules 3 always ends
    with 0 and says ERROR (module(1)); but so may a module that has been loaded, in its news.

    Parameters
    ----------
    loaded
        LOADEDMODULES afterwards.
    """
    if code:
        return True
    names = loaded.split(":")
    missing = [
        one
        for one in modules
        if not any(name == one or name.startswith((f"{one}/", f"{one}.")) for name in names)
    ]
    return bool(missing and _ERROR.search(said))


def mpi_types(said: str) -> list[str]:
    """Return the lines of ``srun --mpi=list`` that may name plugins: those after its heading.

    Older ones of Slurm's have ``srun:`` before each line.
    """
    lines = [line.removeprefix("srun:").strip() for line in said.splitlines()]
    heads = [place for place, line in enumerate(lines) if _TYPES.fullmatch(line)]
    return lines[heads[-1] + 1 :] if heads else []
