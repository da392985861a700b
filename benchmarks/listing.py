"""Status and listing of many runs

`hpctf runs --limit 0 --json` over settled runs on this machine's disk, the whole process. Cold:
after dropping the kernel's caches, Python's own files included. `hpctf status` is of a completed
run with many ranks. One run is trained; the others are folders of links to its files.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import HPCTF, Bench, run, timed
from benchmarks.figures import Figure, Goal, value
from benchmarks.ranks import widen
from hpctf import Experiment, TensorFlow

RUNS = (10, 100, 1_000, 5_000, 20_000)
RANKS = (1, 16, 128, 1_024)
WARM, COLD, STATUS = "`hpctf runs`", "`hpctf runs`, cold", "`hpctf status`"
WHY = "Each run's record and last state are files of its own: 0.2 ms per run."
GOALS = (
    Goal("`hpctf runs` of 5,000 settled runs ≤ 1 s", value(WARM, 5_000), most=1.0),
    Goal("`hpctf runs` of 20,000 settled runs ≤ 1 s", value(WARM, 20_000), most=1.0, why=WHY),
    Goal("`hpctf status` of 1,024 ranks ≤ 1 s", value(STATUS, 1_024), most=1.0),
)
CACHES = Path("/proc/sys/vm/drop_caches")
FIRST_MS = 1_700_000_000_000


def measure(bench: Bench) -> Iterator[Figure]:
    trained = train(bench.folder)
    for size in bench.of(RUNS, (10, 100)):
        root = bench.folder / f"runs-{size}"
        copies(trained, root, size)
        case = {WARM: lambda root=root, size=size: look(root, size)}
        yield from bench.in_turn(case, rounds=5, size=size, size_of="runs")
        if not bench.quick and os.geteuid() == 0:
            cold = tuple(look(root, size) for _ in range(3) if forget())
            yield Figure(COLD, "s", cold, size, "runs")
        shutil.rmtree(root)
    for ranks in bench.of(RANKS, (1, 16)):
        widen(trained, ranks, 0, ended=True)
        case = {STATUS: lambda: status(trained)}
        yield from bench.in_turn(case, rounds=5, size=ranks, size_of="ranks")


def train(folder: Path) -> Path:
    """Train a run and let its state be settled; return its folder."""
    (folder / "proj").mkdir()
    (folder / "proj/train.py").write_text("print(1)\n")
    estimator = TensorFlow(folder / "proj", entry_script="train.py")
    experiment = Experiment("many", site="local", runs_root=folder / "trained")
    finished = experiment.submit(estimator, on_note=lambda note: None)
    finished.wait_for_completion()
    return finished.folder.path


def copies(source: Path, root: Path, count: int) -> None:
    """Make runs of a run: folders of their own, and links to its files."""
    for number in range(count):
        target = root / "many" / f"many_{FIRST_MS + number}_{number:06x}"
        shutil.copytree(source, target, symlinks=True, copy_function=os.link)


def forget() -> bool:
    """Drop the kernel's caches."""
    os.sync()
    CACHES.write_text("3\n")
    return True


def look(root: Path, count: int) -> float:
    """Return the seconds of one listing."""
    variables = {"HPCTF_RUNS_ROOT": str(root), "HPCTF_SITE": "local"}
    began = time.perf_counter()
    printed = run(HPCTF, "runs", "--limit", "0", "--json", **variables)
    seconds = time.perf_counter() - began
    listed = json.loads(printed)
    assert len(listed) == count, (len(listed), count)
    return seconds


def status(folder: Path) -> float:
    """Return the seconds of one status."""
    root = folder.parent.parent
    return timed(HPCTF, "status", folder.name, HPCTF_RUNS_ROOT=str(root), HPCTF_SITE="local")
