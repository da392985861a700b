"""What hpctf watch costs

The time to its first picture, and bytes and CPU from then on, a picture per second: of a run of
this machine that logs nothing, and of one that logs ten values and an epoch per second.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.figures import Figure
from hpctf import Experiment, Run, TensorFlow
from tests.support.terminal import Terminal
from tests.support.waiting import wait_until

QUICK = False
UNITS = ("s to the first picture", "bytes/s", "% of a core")
SECONDS = 10
SIZES = ((80, 24), (160, 50))
TRAINING = """
import sys, time
from hpctf import Run
run = Run.get_context()
for step in range(2000):
    run.log("batch/loss", 1 / (step + 1), step)
    if step % 10 == 9:
        run.log("loss", 10 / (step + 1), step // 10)
        run.log("accuracy", 1 - 1 / (step + 1), step // 10)
        run.progress(epoch=step // 10 + 1, epochs=200)
    if step > 100:
        time.sleep(0.1 if sys.argv[1] == "busy" else 60)
"""


def start(folder: Path, kind: str) -> Run:
    """Start a run and let it log its first epochs."""
    source = folder / "proj"
    source.mkdir(parents=True, exist_ok=True)
    (source / "train.py").write_text(TRAINING)
    estimator = TensorFlow(source, entry_script="train.py", script_params={kind: ""})
    run = Experiment("watched", site="local", runs_root=folder / "runs").submit(estimator)
    wait_until(lambda: "accuracy" in run.last_metrics())
    time.sleep(2)  # until the first sample
    return run


def cpu_s(pid: int) -> float:
    """Return the CPU seconds of a process (proc(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(bench: Bench) -> Iterator[Figure]:
    for kind in ("quiet", "busy"):
        run = start(bench.folder, kind)
        for columns, lines in SIZES:
            seen = [watched(bench.folder, run, columns, lines) for _ in range(bench.rounds(3))]
            for unit, values in zip(UNITS, zip(*seen, strict=True), strict=True):
                yield Figure(f"{kind}, {columns}x{lines}", unit, tuple(values))
        run.cancel()
        run.wait_for_completion(raise_on_error=False)


def watched(folder: Path, run: Run, columns: int, lines: int) -> tuple[float, float, float]:
    """Watch a run for a while; return the seconds to the first picture, and then bytes per second
    and the share of a core."""
    began = time.monotonic()
    seen = Terminal("watch", run.id, cwd=folder, columns=columns, lines=lines)
    seen.shows("q or Ctrl-C")
    first_s = time.monotonic() - began
    time.sleep(2)
    sent, cpu = len(seen.sent), cpu_s(seen.process.pid)
    time.sleep(SECONDS)
    sent, cpu = len(seen.sent) - sent, cpu_s(seen.process.pid) - cpu
    seen.type("q")
    seen.ends()
    return first_s, sent / SECONDS, 100 * cpu / SECONDS
