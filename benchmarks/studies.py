"""A study of 1,000 trials: what submitting costs, how busy its slots are, and what lies between two
trials.

    python benchmarks/studies.py [TRIALS] [SLOTS]

1,000 trials and 4 slots unless given. Nothing is queued: an sbatch that only prints a job's number
stands in for Slurm's, and the agents run here, one for each slot. Trials take from 1 to 10 times
as long as the shortest, and log one value.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hpctf import Experiment, HyperDriveConfig, HyperDriveRun, TensorFlow
from hpctf.tuning.expressions import uniform
from hpctf.tuning.sampling import RandomParameterSampling

SHORTEST_S = 2.0
AGENT_TRIALS = 40
"""Trials that are run; the rest of a study adds nothing to what a slot does."""

SCRIPT = f"""
import json, os, sys, time
began = time.time()
from hpctf import Run
seconds = {SHORTEST_S} * float(sys.argv[sys.argv.index("--length") + 1])
time.sleep(max(0.0, began + seconds - time.time()))
Run.get_context().log("acc", seconds)
with open(os.environ["HPCTF_OUTPUTS_DIR"] + "/times", "w") as file:
    json.dump([began, time.time()], file)
"""


def submitted(folder: Path, trials: int, slots: int) -> tuple[HyperDriveRun, float]:
    """Submit a study, and return it with the seconds that took."""
    source = folder / "project"
    source.mkdir(exist_ok=True)
    (source / "train.py").write_text(SCRIPT)
    config = HyperDriveConfig(
        RandomParameterSampling({"length": uniform(1, 10), "lr": uniform(0, 1)}),
        "acc",
        "maximize",
        trials,
        slots,
        estimator=TensorFlow(source, entry_script="train.py", python=sys.executable),
    )
    experiment = Experiment("bench", site="slurm", runs_root=folder / "runs")
    began = time.perf_counter()
    run = experiment.submit_study(config, on_note=lambda note: None, seed=1)
    return run, time.perf_counter() - began


def run_agents(run: HyperDriveRun, slots: int) -> float:
    """Run the agents to their end, and return the seconds that took."""
    began = time.perf_counter()
    quiet, agents = subprocess.DEVNULL, []
    for number in range(slots):
        words = "from hpctf.tuning.agent.agent import run_agent; "
        words += f"run_agent({str(run.folder.path)!r}, {number})"
        job = {"SLURM_JOB_ID": "7", "SLURM_ARRAY_JOB_ID": "7", "SLURM_ARRAY_TASK_ID": str(number)}
        command = [sys.executable, "-c", words]
        agents.append(subprocess.Popen(command, env={**os.environ, **job}, stderr=quiet))
    for agent in agents:
        agent.wait()
    return time.perf_counter() - began


def told(run: HyperDriveRun, slots: int) -> None:
    """Print how busy the slots were until the first had nothing left, and the gaps between
    trials."""
    by_slot: dict[int, list[tuple[float, float]]] = {}
    for number, entry in run.progress.trials.items():
        began, ended = json.loads((run.trial(number).folder.outputs / "times").read_text())
        by_slot.setdefault(entry.agent, []).append((began, ended))
    gaps, busy, whole = [], 0.0, 0.0
    for trials in by_slot.values():
        trials.sort()
        gaps += [after[0] - before[1] for before, after in itertools.pairwise(trials)]
        busy += sum(ended - began for began, ended in trials)
        whole += trials[-1][1] - trials[0][0]
    median, longest = statistics.median(gaps), max(gaps)
    print(
        f"{len(run.progress.trials)} trials in {slots} slots: busy {100 * busy / whole:.1f} %; "
        f"from a script's last line to the next one's first {median:.2f} s (median), "
        f"{longest:.2f} s (longest)"
    )


def main(trials: int, slots: int) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        programs = folder / "bin"
        programs.mkdir()
        for program, words in (("sbatch", "echo 7"), ("squeue", "exit 0"), ("sacct", "exit 1")):
            (programs / program).write_text(f"#!/bin/sh\n{words}\n")
            (programs / program).chmod(0o755)
        os.environ["PATH"] = f"{programs}:{os.environ['PATH']}"
        times = [submitted(folder, trials, slots) for _ in range(5)]
        run = times[-1][0]
        files = sum(len(names) for _, *both in os.walk(run.folder.path) for names in both)
        median = statistics.median(seconds for _, seconds in times)
        print(f"submitting {trials:,} trials: {median:.2f} s; {files} files and folders in all")
        began = time.perf_counter()
        count = len(HyperDriveRun(run.folder).study.drawn)
        print(f"reading what {count:,} trials are: {time.perf_counter() - began:.3f} s")
        run, _ = submitted(folder, min(trials, AGENT_TRIALS), slots)
        run_agents(run, slots)
        told(HyperDriveRun(run.folder), slots)


if __name__ == "__main__":
    numbers = [int(word) for word in sys.argv[1:]]
    main(*(numbers + [1000, 4][len(numbers) :]))
