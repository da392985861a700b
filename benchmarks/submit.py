"""Submitting a job of 2 nodes

From the command to its end, the whole process, with the smallest program that each launcher needs.
*Not compiled* means that Python finds no bytecode of installed packages, as after `uv pip install`
without `--compile-bytecode` where PYTHONDONTWRITEBYTECODE is set; its own library is compiled.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.bench import Bench, run, timed
from benchmarks.figures import Figure, Goal, ratio
from benchmarks.launchers import BY_HAND, NEEDS, Command, Launch
from benchmarks.queue import wait_until_empty

__all__ = ["NEEDS"]
QUICK = True
BARE = ", not compiled"
WHY = """Nearly all of it is imports: hpctf's are those of submitit, and as much again for jinja2,
click and some 130 modules of its own."""
GOALS = (
    Goal("hpctf ≤ 1.2 × submitit", ratio("hpctf", "submitit"), most=1.2, why=WHY),
    Goal(
        "hpctf ≤ 1.5 × submitit, not compiled",
        ratio(f"hpctf{BARE}", f"submitit{BARE}"),
        1.5,
        why=WHY,
    ),
    Goal("hpctf ahead of TorchX", ratio("hpctf", "TorchX"), most=1.0),
    Goal(
        "hpctf ahead of TorchX, not compiled",
        ratio(f"hpctf{BARE}", f"TorchX{BARE}"),
        most=1.0,
        why=WHY,
    ),
    Goal("hpctf ahead of NeMo-Run", ratio("hpctf", "NeMo-Run"), most=1.0),
)
SBATCH = """case "$*" in
*--parsable*) echo 7 ;;
*) echo Submitted batch job 7 ;;
esac"""
NOTHING = {"squeue": "exit 0", "sacct": "exit 0", "scontrol": "exit 1"}


def measure(bench: Bench) -> Iterator[Figure]:
    folder = bench.folder
    script = bench.script("now.py", "import time\nprint(time.time())\n")
    variables = {"HPCTF_RUNS_ROOT": str(folder / "runs")}
    if bench.quick:
        variables["PATH"] = bench.stand_ins(sbatch=SBATCH, **NOTHING)

    cases = {}
    commands = Launch(folder, script).commands(bench.quick)
    for name, command in commands.items():
        cases[name] = submission(bench, command, variables)
    if not bench.quick:
        not_compiled = {**variables, **without_bytecode(folder / "compiled")}
        del commands[BY_HAND]
        for name, command in commands.items():
            cases[name + BARE] = submission(bench, command, not_compiled)
    yield from bench.in_turn(cases, rounds=7, base="submitit")


def without_bytecode(prefix: Path) -> dict[str, str]:
    """Return variables with which Python finds the bytecode of its own library alone."""
    variables = {"PYTHONPYCACHEPREFIX": str(prefix)}
    library = sysconfig.get_path("stdlib")
    left_out = "/test/|-packages/|/idlelib/"
    run(sys.executable, "-m", "compileall", "-q", "-x", left_out, library, **variables)
    return {**variables, "PYTHONDONTWRITEBYTECODE": "1"}


def submission(
    bench: Bench, command: Callable[[], Command], variables: dict[str, str]
) -> Callable[[], float]:
    """Return what submits once and returns its seconds, once the queue is empty."""

    def measured() -> float:
        words = command()
        if not bench.quick:
            wait_until_empty()
        return timed(*words, **variables)

    return measured
