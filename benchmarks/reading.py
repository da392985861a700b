"""What reading back costs: the last metrics of a thousand runs, with short journals and long ones.

    python -m benchmarks.reading FOLDER [--runs N] [--rounds N] [--events FILE]

One run is trained on this machine for each case; the others are copies of its folder, with a
journal for each rank. A killed one has logged thousands of lines a second, and left a journal that
was not closed. With --events, a file that TensorBoard's callback has written, each run has a copy
of it and a short journal. Unseen means that nobody has looked at the runs' state yet: journals are
read, cold. The first look (`hpctf runs` is one) settles the state, and keeps the last values.
Cold means that the kernel's caches were dropped (as root only), so that Python's own files and
hpctf's are read from the disk, too.
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.listing import FIRST_MS, forget
from hpctf import Experiment, TensorFlow

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


def main() -> None:
    """Print the seconds that reading takes, warm and cold, for each kind of run."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a folder on the file system to measure")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--events", type=Path, help="an event file")
    given = parser.parse_args()
    folder = given.folder.absolute()
    print(f"last metrics of {given.runs} runs, medians of {given.rounds}, seconds")
    print(f"  {'':24} unseen cold   warm")
    for title, (steps, end, ranks) in CASES.items():
        root = folder / f"{given.runs}x{ranks}-{steps}-{end}"
        if not root.exists():
            copies(first(folder, root, steps, end), given.runs, ranks)
        measure(root, title, given.runs, given.rounds)
    if given.events:
        root = folder / f"{given.runs}-events"
        if not root.exists():
            source = first(folder, root, 12, "whole")
            (source / "snapshot/logs/train").mkdir(parents=True)
            shutil.copy(given.events, source / "snapshot/logs/train")
            copies(source, given.runs, 1)
        measure(
            root, f"{given.events.stat().st_size // 1024} KB of events", given.runs, given.rounds
        )


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


def measure(root: Path, title: str, runs: int, rounds: int) -> None:
    """Print a line: the medians for the runs under a root."""
    unseen = [look(root, runs) for _ in range(rounds) if unsettle(root)]
    subprocess.run([sys.executable, "-c", SETTLE, str(root)], check=True)
    warm = [look(root, runs) for _ in range(rounds + 1)][1:]
    cold = [look(root, runs) for _ in range(rounds) if forget()]
    shown = [f"{statistics.median(seen):.3f}" if seen else "-" for seen in (unseen, cold, warm)]
    print(f"  {title:24} {'  '.join(shown)}", flush=True)


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


if __name__ == "__main__":
    main()
