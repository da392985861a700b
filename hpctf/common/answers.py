"""Answers of programs that may say more than they were asked: read between marks, or not at all.

A site's ``sitecustomize``, a ``.pth`` file, a package that is imported, or a wrapper around an
interpreter may print before the answer and after it.
"""

from __future__ import annotations

import json
import re
from typing import Any

MARK = "hpctf-answer:"
"""Begins the line on which a program of ours prints its answer as JSON, on a line of its own."""

PRINT = f"print('\\n{MARK}' + json.dumps(answer), flush=True)"
"""Python that prints ``answer``; it needs ``json``."""

_TYPES = re.compile(r"MPI (?:plugin )?types are\.*")


def answer_of(said: str) -> Any:
    """Return the answer in what a program printed; `ValueError` says that there is none."""
    lines = [line for line in said.splitlines() if line.startswith(MARK)]
    if not lines:
        raise ValueError("no answer")
    return json.loads(lines[-1][len(MARK) :])


def mpi_types(said: str) -> list[str]:
    """Return the lines of ``srun --mpi=list`` that may name plugins: those after its heading.

    Older ones of Slurm's have ``srun:`` before each line.
    """
    lines = [line.removeprefix("srun:").strip() for line in said.splitlines()]
    heads = [place for place, line in enumerate(lines) if _TYPES.fullmatch(line)]
    return lines[heads[-1] + 1 :] if heads else []
