"""How long hpctf takes before anything trains, side by side with what people write without it.

    python benchmarks/startup.py FOLDER [--rounds N]

FOLDER lies on the file system that the nodes share. Needs a Slurm with two free nodes
(`tests/cluster/up` makes one). Three tables, each of medians over rounds that take turns:

1. batch script's first line → the person's first line, on 2 nodes: bare ``srun python``, submitit,
   and hpctf with ``mpi`` and ``collective``;
2. submitting, as whole processes: the smallest submitit program, and ``hpctf submit``;
3. ``import hpctf`` beside a Python that imports nothing.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

FIRST_LINE = "import time; print(time.time())\n"
BATCH = """#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --output={folder}/bare.log
date +%s.%N >{folder}/bare.first
srun {python} {folder}/proj/now.py
"""
SUBMITIT_JOB = """
import sys, time, submitit
executor = submitit.SlurmExecutor(sys.argv[1])
first = ["date +%s.%N >" + sys.argv[1] + "/first"]
executor.update_parameters(nodes=2, ntasks_per_node=1, setup=first)
print(executor.submit(time.time).results())
"""
SUBMITIT_SUBMIT = """
import sys, time, submitit
executor = submitit.SlurmExecutor(sys.argv[1])
executor.update_parameters(nodes=2, ntasks_per_node=1)
executor.submit(time.time)
"""
SITE = """
name: bench
prologue: ['date +%s.%N >"$run/first"']
"""


def main() -> None:
    """Print the three tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a folder that the nodes share")
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    folder = given.folder.absolute()
    (folder / "proj").mkdir(parents=True, exist_ok=True)
    (folder / "proj/now.py").write_text(FIRST_LINE)
    (folder / "site.yaml").write_text(SITE)
    os.environ.update(HPCTF_RUNS_ROOT=str(folder / "runs"), HPCTF_SITE=str(folder / "site.yaml"))
    launches: dict[str, Callable[[], float]] = {
        "bare srun python": lambda: bare(folder),
        "submitit": lambda: submitit(folder),
        "hpctf mpi": lambda: hpctf(folder, "mpi"),
        "hpctf collective": lambda: hpctf(folder, "collective"),
    }
    table(
        "batch script's first line to the last rank's first line, 2 nodes", launches, given.rounds
    )
    submits: dict[str, Callable[[], float]] = {
        "smallest submitit program": lambda: timed(
            sys.executable, "-c", SUBMITIT_SUBMIT, str(folder / "submitit")
        ),
        "hpctf submit": lambda: timed(
            str(Path(sys.executable).with_name("hpctf")),
            *("submit", "--backend", "mpi", "--nodes", "2", str(folder / "proj/now.py")),
        ),
    }
    table("submitting, the whole process", submits, given.rounds)
    imports: dict[str, Callable[[], float]] = {
        "python -c pass": lambda: timed(sys.executable, "-c", "pass"),
        "python -c 'import hpctf'": lambda: timed(sys.executable, "-c", "import hpctf"),
    }
    table("importing", imports, given.rounds)


def table(title: str, cases: dict[str, Callable[[], float]], rounds: int) -> None:
    """Run the cases in turn, one warm-up first, and print minimum, median and maximum."""
    seconds: dict[str, list[float]] = {name: [] for name in cases}
    for turn in range(rounds + 1):
        for name, run in cases.items():
            taken = run()
            if turn:
                seconds[name].append(taken)
    print(f"\n{title} (seconds, {rounds} rounds)")
    base = statistics.median(next(iter(seconds.values())))
    for name, taken_all in seconds.items():
        middle = statistics.median(taken_all)
        print(
            f"  {name:28} min {min(taken_all):.3f}  median {middle:.3f}  max {max(taken_all):.3f}"
            f"  {middle - base:+.3f} s  x{middle / base:.2f}"
        )


def timed(*command: str) -> float:
    """Return the seconds that a command takes, once the queue is empty."""
    while subprocess.check_output(["squeue", "--me", "--noheader"]):
        time.sleep(0.2)
    began = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - began


def bare(folder: Path) -> float:
    """Return the latency of a batch script that somebody wrote by hand."""
    script = folder / "bare.sh"
    script.write_text(BATCH.format(folder=folder, python=sys.executable))
    (folder / "bare.log").unlink(missing_ok=True)
    subprocess.run(["sbatch", "--wait", script], check=True, stdout=subprocess.DEVNULL)
    return _latest(folder / "bare.log") - float((folder / "bare.first").read_text())


def submitit(folder: Path) -> float:
    """Return the latency of submitit's own executor."""
    jobs = folder / "submitit"
    command = [sys.executable, "-c", SUBMITIT_JOB, str(jobs)]
    printed = subprocess.check_output(command, text=True)
    latest = max(float(word) for word in printed.strip("[]\n ").split(","))
    return latest - float((jobs / "first").read_text())


def hpctf(folder: Path, backend: str) -> float:
    """Return hpctf's latency."""
    command = [str(Path(sys.executable).with_name("hpctf")), "submit", "--backend", backend]
    command += ["--nodes", "2", "--wait", str(folder / "proj/now.py")]
    run = subprocess.check_output(command, text=True, stderr=subprocess.DEVNULL).strip()
    home = folder / "runs/now" / run
    latest = max(_latest(log) for log in home.glob("logs/worker-*.log"))
    return latest - float((home / "first").read_text())


def _latest(log: Path) -> float:
    return max(float(line) for line in log.read_text().splitlines())


if __name__ == "__main__":
    main()
