"""What a look at many runs costs: ``hpctf runs`` over runs whose jobs all wait in Slurm's queue.

    python benchmarks/poll.py FOLDER [--runs N] [--rounds N]

FOLDER lies on the file system that the nodes share. Needs a Slurm (`tests/cluster/up` makes one).
One run is submitted; the others are copies of its folder, each with a waiting job of its own. The
jobs are cancelled afterwards.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

COMMANDS = ("squeue", "sacct", "scontrol", "sinfo")
WRAPPER = """#!/bin/sh
echo {name} >>{log}
exec {real} "$@"
"""
LATER = "2099-01-01"


def main() -> None:
    """Print the seconds of a look, and the Slurm commands that it took."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a folder that the nodes share")
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    folder = given.folder.absolute()
    (folder / "proj").mkdir(parents=True, exist_ok=True)
    (folder / "proj/train.py").write_text("print(1)\n")
    os.environ.update(HPCTF_RUNS_ROOT=str(folder / "runs"), HPCTF_SITE="slurm")
    log = folder / "commands.log"
    os.environ["PATH"] = f"{count_commands(folder / 'bin', log)}:{os.environ['PATH']}"
    jobs = [first(folder)]
    try:
        jobs += copies(folder, given.runs - 1)
        seconds = [look(given.runs) for _ in range(given.rounds)]
    finally:
        subprocess.run(["xargs", "scancel"], input="\n".join(jobs), text=True, check=True)
    taken = len(log.read_text().split()) / given.rounds
    print(f"hpctf runs --limit 0 --json, {given.runs} waiting runs, median of {given.rounds}")
    print(f"  seconds         {statistics.median(seconds):.3f}")
    print(f"  Slurm commands  {taken:g}")


def count_commands(folder: Path, log: Path) -> Path:
    """Return a folder of Slurm's commands that note each call."""
    folder.mkdir(exist_ok=True)
    for name in COMMANDS:
        wrapper = folder / name
        wrapper.write_text(WRAPPER.format(name=name, log=log, real=shutil.which(name)))
        wrapper.chmod(0o755)
    return folder


def first(folder: Path) -> str:
    """Submit the run that the others are copies of, and return its job's id."""
    words = ["submit", "--experiment", "poll", "--sbatch", f"begin={LATER}", "--json"]
    answer = json.loads(hpctf(*words, str(folder / "proj/train.py")))
    return str(answer["job_id"])


def copies(folder: Path, count: int) -> list[str]:
    """Make copies of the run, each with a job, and return the jobs' ids."""
    source = next((folder / "runs/poll").iterdir())
    jobs = []
    for number in range(count):
        name = f"poll_{number + 1}_{number:06x}"
        target = source.with_name(name)
        shutil.copytree(source, target, symlinks=True)
        command = ["sbatch", "--parsable", f"--begin={LATER}", f"--job-name={name}", "--wrap=true"]
        jobs.append(subprocess.check_output(command, text=True, cwd=folder).strip())
        record = json.loads((source / "run.json").read_text())
        changed = {**record, "id": name, "job_id": jobs[-1], "job_name": name}
        (target / "run.json").write_text(json.dumps(changed))
    return jobs


def look(count: int) -> float:
    """Return the seconds that one ``hpctf runs`` takes, as a process."""
    began = time.perf_counter()
    rows = json.loads(hpctf("runs", "--limit", "0", "--json"))
    seconds = time.perf_counter() - began
    states = {row["state"] for row in rows}
    assert len(rows) == count and states == {"Queued"}, (len(rows), states)
    return seconds


def hpctf(*words: str) -> str:
    """Run hpctf and return what it prints."""
    command = [str(Path(sys.executable).with_name("hpctf")), *words]
    return subprocess.check_output(command, text=True)


if __name__ == "__main__":
    main()
