"""What hpctf takes beside each rank

The wrapper is the one process of hpctf's beside a rank, in a run of this machine that sleeps: its
memory (its own, and with what it shares with other Pythons), and its CPU time as a share of one
core, signs of life and samples included. The share falls in a longer run, since the start counts.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.figures import Figure, Goal, value
from hpctf import Experiment, TensorFlow

MEMORY, SHARE = "wrapper, its own memory", "wrapper, CPU while the script sleeps"
GOALS = (
    Goal("≤ 25 MB per rank", value("wrapper, memory with shared pages"), most=25),
    Goal("≤ 0.2 % of a core per rank", value(SHARE), most=0.2),
)
SCRIPT = """
import os, sys, time
print(os.getppid(), flush=True)
time.sleep(float(sys.argv[1]))
"""


def measure(bench: Bench) -> Iterator[Figure]:
    (bench.folder / "proj").mkdir()
    (bench.folder / "proj/train.py").write_text(SCRIPT)
    seconds = bench.of(30.0, 3.0)
    estimator = TensorFlow(
        bench.folder / "proj", entry_script="train.py", arguments=[str(seconds + 30)]
    )
    own, shared, shares = [], [], []
    for _ in range(bench.rounds(3)):
        experiment = Experiment("wrapped", site="local", runs_root=bench.folder / "runs")
        run = experiment.submit(estimator, on_note=lambda note: None)
        log = run.folder.logs / "worker-0.log"
        while not (log.exists() and log.read_text().endswith("\n")):
            time.sleep(0.1)
        wrapper = int(log.read_text().split()[0])
        time.sleep(2)  # beyond the first sample
        began = cpu_s(wrapper)
        time.sleep(seconds)
        shares.append(100 * (cpu_s(wrapper) - began) / seconds)
        own.append(memory_mb(wrapper, "Private_Dirty", "Private_Clean"))
        shared.append(memory_mb(wrapper, "Rss"))
        run.cancel()
        run.wait_for_completion(raise_on_error=False)
    yield Figure(MEMORY, "MB", tuple(own))
    yield Figure("wrapper, memory with shared pages", "MB", tuple(shared))
    yield Figure(SHARE, "% of a core", tuple(shares))


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process, all its threads (proc(5), schedstat), to the
    nanosecond."""
    tasks = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


def memory_mb(pid: int, *names: str) -> float:
    """Return the sum of what smaps_rollup says of a process."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    kib = sum(int(line.split()[1]) for line in lines if line.split(":")[0] in names)
    return kib * 1024 / 1e6
