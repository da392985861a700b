"""Reading the last metrics of many runs

`run.last_metrics()` of each of 1,000 runs, in one process. Unseen: nobody has looked at the runs
yet, and the kernel's caches were dropped; the first look settles a run's state and keeps its last
values. Cold: after dropping the caches, Python's own files included. One run is trained for each
case, the others are copies of its folder. A killed one has logged thousands of lines per second,
and left a journal that was not closed.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.figures import Figure, Goal, value
from benchmarks.listing import FIRST_MS, forget
from hpctf import Experiment, TensorFlow

QUICK = False
RUNS = 1_000
GOALS = tuple(
    Goal(f"last metrics of 1,000 runs ≤ 2 s, {case}, cold", value(f"{case}: cold"), most=2.0)
    for case in ("1 rank, 12 steps", "1 rank, 1 MB")
)
NAMES = 5
TRAIN = """
import os, sys
from hpctf import Run

run = Run.get_context()
for step in range(int(sys.argv[1])):
    for number in range(%d):
        run.log("metric-%%d" %% number, (step + 1) / (number + 3), step)
if sys.argv[2] == "killed":
    os.kill(os.getpid(), 9)
"""
READ = """
import sys
from hpctf import Experiment

last = [run.last_metrics() for run in Experiment("many", "local", sys.argv[1]).get_runs()]
print(len(last), sum(map(len, last)))
"""
SETTLE = """
import sys
from hpctf import Experiment

assert all(run.look().final for run in Experiment("many", "local", sys.argv[1]).get_runs())
"""
CASES = {
    "1 rank, 12 steps": (12, "whole", 1),
    "64 ranks, 12 steps": (12, "whole", 64),
    "1 rank, 1 MB": (2700, "whole", 1),
    "1 rank, 1 MB, killed": (2700, "killed", 1),
}
"""How many steps of five metrics are logged, how the training ends, and ranks a run."""


def measure(bench: Bench) -> Iterator[Figure]:
    for title, (steps, end, ranks) in CASES.items():
        root = bench.folder / f"{ranks}-{steps}-{end}"
        copies(first(bench.folder, root, steps, end), RUNS, ranks)
        unseen = tuple(look(root, RUNS) for _ in range(bench.rounds(2)) if unsettle(root))
        yield Figure(f"{title}: unseen", "s", unseen)
        subprocess.run([sys.executable, "-c", SETTLE, str(root)], check=True)
        cold = tuple(look(root, RUNS) for _ in range(bench.rounds(3)) if forget())
        yield Figure(f"{title}: cold", "s", cold)
        yield Figure(f"{title}: warm", "s", tuple(look(root, RUNS) for _ in range(bench.rounds(5))))
        shutil.rmtree(root)


def first(folder: Path, root: Path, steps: int, end: str) -> Path:
    """Train a run and let its state be settled; return its folder."""
    project = folder / "proj"
    project.mkdir(parents=True, exist_ok=True)
    (project / "train.py").write_text(TRAIN % NAMES)
    estimator = TensorFlow(
        source_directory=project,
        entry_script="train.py",
        arguments=[steps, end],
        python=sys.executable,
    )
    run = Experiment("many", "local", root).submit(estimator, on_note=lambda note: None)
    run.wait_for_completion(raise_on_error=False)
    assert len(run.last_metrics()) == NAMES
    return run.folder.path


def copies(source: Path, count: int, ranks: int) -> None:
    """Give each rank a copy of the run's journal, and make copies of the run in its stead."""
    for index in range(1, ranks):
        shutil.copy(source / "metrics/worker-0.jsonl", source / f"metrics/worker-{index}.jsonl")
    for number in range(count):
        name = f"many_{FIRST_MS + number}_{number:06x}"
        shutil.copytree(source, source.with_name(name), symlinks=True)
    shutil.rmtree(source)


def unsettle(root: Path) -> bool:
    """Take away what the first look kept, and drop the kernel's caches (as root only)."""
    for name in ("final.json", "last.json"):
        for kept in root.glob(f"many/*/state/{name}"):
            kept.unlink()
    return forget()


def look(root: Path, runs: int) -> float:
    """Return the seconds that reading all takes, as a process."""
    began = time.perf_counter()
    answer = subprocess.check_output([sys.executable, "-c", READ, str(root)], text=True)
    seconds = time.perf_counter() - began
    read, metrics = map(int, answer.split())
    assert read == runs and metrics >= runs * NAMES, answer
    return seconds
