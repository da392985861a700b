"""A study of 1,000 trials

Nothing is queued: an sbatch that only prints a job's number stands in for Slurm's. Submitting, and
reading what the trials are; then agents that run here, one per slot, until 40 trials have ended,
each of 2 to 20 s: how busy the slots are, and what lies between a script's last line and the next
one's first.
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.figures import Figure, Goal, value
from hpctf import Experiment, HyperDriveConfig, HyperDriveRun, TensorFlow
from hpctf.tuning.expressions import uniform
from hpctf.tuning.sampling import RandomParameterSampling

QUICK = False
TRIALS = 1_000
GOALS = (
    Goal("submitting 1,000 trials ≤ 1.5 s", value("submitting 1,000 trials"), most=1.5),
    Goal("4 slots busy ≥ 95 %", value("slots busy, 4 on this machine"), least=95.0),
)
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


def busy_and_gaps(run: HyperDriveRun) -> tuple[float, list[float]]:
    """Return the share of the time, from its first trial to its last one's end, in which a slot had
    a trial; and the seconds between two trials."""
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
    return busy / whole, gaps


def measure(bench: Bench) -> Iterator[Figure]:
    variables = bench.stand_ins(sbatch="echo 7", squeue="exit 0", sacct="exit 1")
    os.environ["PATH"] = variables
    submissions = [submitted(bench.folder, TRIALS, 4) for _ in range(bench.rounds(5))]
    run = submissions[-1][0]
    yield Figure("submitting 1,000 trials", "s", tuple(seconds for _, seconds in submissions))
    files = sum(len(names) for _, *both in os.walk(run.folder.path) for names in both)
    yield Figure("files and folders of a study that has not begun", "files", (float(files),))
    began = time.perf_counter()
    assert len(HyperDriveRun(run.folder).study.drawn) == TRIALS
    yield Figure("reading what 1,000 trials are", "s", (time.perf_counter() - began,))
    for slots in (1, 4):
        run, _ = submitted(bench.folder, AGENT_TRIALS * slots // 4, slots)
        run_agents(run, slots)
        busy, gaps = busy_and_gaps(HyperDriveRun(run.folder))
        yield Figure(f"slots busy, {slots} on this machine", "%", (100 * busy,))
        yield Figure(f"between two trials, {slots} on this machine", "s", tuple(gaps))
