"""From the batch script to the user's script

From the batch script's first line to the first line of the last rank's script, for a bare `srun`
and for hpctf, on 64 nodes. Each rank of hpctf's is two processes, the wrapper and the script. Here
all ranks share the CPUs of one machine, so that from 32 ranks on the values say how much CPU time
the ranks' start takes; on a cluster each has its own.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from benchmarks.bench import HPCTF, Bench, run
from benchmarks.figures import Figure, Figures, Goal, difference

NEEDS = ("slurm",)
NODES = 64
SIZES = {2: (2, 1), 8: (8, 1), 32: (32, 1), 256: (64, 4)}
"""By ranks: nodes and ranks per node."""
BARE = "bare `srun python`"
BACKENDS = {f"hpctf, `{name}`": name for name in ("mpi", "collective")}
OURS = next(iter(BACKENDS))


def growth(figures: Figures) -> float | None:
    """Return how many times as much time hpctf gains as srun does, from 2 ranks to 256."""
    grown = []
    for case in (OURS, BARE):
        few, many = figures.median(case, 2), figures.median(case, 256)
        if few is None or many is None:
            return None
        grown.append(many - few)
    return grown[0] / grown[1]


WHY = """Each rank is two Pythons, the wrapper and the script, and all of them start on the CPUs of
one machine."""
GOALS = (
    Goal("≤ bare srun + 0.05 s, 2 ranks", difference(OURS, BARE, 2), most=0.05, why=WHY),
    Goal(
        "grows no faster than bare srun, 2 to 256 ranks (times as much)", growth, most=1.0, why=WHY
    ),
)
BATCH = """#!/bin/bash
#SBATCH --nodes={nodes} --ntasks-per-node={per_node} --output={folder}/bare.log
date +%s.%N >{folder}/bare.first
srun {python} {folder}/sources/now/now.py
"""
SCRIPT = "import time; print(time.time())\n"
SITE = """
name: bench
prologue: ['date +%s.%N >"$run/first"']
"""


def measure(bench: Bench) -> Iterator[Figure]:
    folder = bench.folder
    bench.script("now.py", SCRIPT)
    (folder / "site.yaml").write_text(SITE)
    for ranks, (nodes, per_node) in SIZES.items():
        cases = {BARE: partial(bare, folder, nodes, per_node)}
        for case, backend in BACKENDS.items():
            cases[case] = partial(ours, folder, backend, nodes, per_node)
        rounds = 5 if ranks < 100 else 2
        yield from bench.in_turn(cases, rounds=rounds, size=ranks, size_of="ranks")


def bare(folder: Path, nodes: int, per_node: int) -> float:
    """Return the latency of a batch script that somebody wrote by hand."""
    script, log = folder / "bare.sh", folder / "bare.log"
    words = {"nodes": nodes, "per_node": per_node, "folder": folder, "python": sys.executable}
    script.write_text(BATCH.format(**words))
    log.unlink(missing_ok=True)
    subprocess.run(["sbatch", "--wait", script], check=True, stdout=subprocess.DEVNULL)
    return latest(log, nodes * per_node) - float((folder / "bare.first").read_text())


def ours(folder: Path, backend: str, nodes: int, per_node: int) -> float:
    """Return the latency of hpctf."""
    options = ("--backend", backend, "--nodes", str(nodes), "--procs-per-node", str(per_node))
    site = ("--site", folder / "site.yaml", "--wait")
    run(
        HPCTF,
        "submit",
        *site,
        *options,
        folder / "sources/now/now.py",
        HPCTF_RUNS_ROOT=str(folder / "runs"),
    )
    home = max((folder / "runs/now").iterdir())
    times = [latest(log, 1) for log in home.glob("logs/worker-*.log")]
    assert len(times) == nodes * per_node, home
    return max(times) - float((home / "first").read_text())


def latest(log: Path, count: int) -> float:
    """Return the latest of so many times in a log."""
    times = [float(line) for line in log.read_text().splitlines()]
    assert len(times) == count, log
    return max(times)
