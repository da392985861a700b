"""Ranks that log, without a job around them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from hpctf.common.paths import CLIENT


def environ(folder: Path, rank: int = 0, attempt: int = 0, role: str = "worker") -> dict[str, str]:
    """The variables of a rank, whose run folder is made."""
    (folder / "metrics").mkdir(parents=True, exist_ok=True)
    return {
        "HPCTF_RUN_ID": "digits_1_a",
        "HPCTF_RUN_FOLDER": str(folder),
        "HPCTF_ROLE": role,
        "HPCTF_INDEX": str(rank),
        "HPCTF_RANK": str(rank),
        "HPCTF_RESTART_COUNT": str(attempt),
    }


def of_two(folder: Path, rank: int) -> dict[str, str]:
    """The variables of one of the two ranks of an mpi run."""
    return {
        "HPCTF_RUN_FOLDER": str(folder),
        "HPCTF_BACKEND": "mpi",
        "HPCTF_ROLE": "worker",
        "HPCTF_INDEX": str(rank),
        "HPCTF_RANK": str(rank),
        "HPCTF_WORLD_SIZE": "2",
        "HPCTF_RESTART_COUNT": "0",
    }


def start(
    folder: Path, code: str, rank: int = 0, attempt: int = 0, **options: Any
) -> subprocess.Popen[str]:
    """Start a rank that runs `code` with its `run`."""
    env = {**os.environ, **environ(folder, rank, attempt), "PYTHONPATH": CLIENT}
    code = f"import os, sys\nfrom hpctf import Run\nrun = Run.get_context()\n{code}"
    words = [sys.executable, "-S", "-c", code]
    return subprocess.Popen(words, env=env, stdout=subprocess.PIPE, text=True, **options)


def lines(path: Path) -> list[dict[str, Any]]:
    """Every line of a journal, which must be JSON as other languages read it, too."""

    def refuse(word: str) -> None:
        raise AssertionError(f"{word} is not JSON")

    return [json.loads(line, parse_constant=refuse) for line in path.read_text().splitlines()]
