"""Trials of a search

So many trials of 1 to 3 s in 8 slots of the test cluster, by hpctf, by other launchers, and by
hand. A trial takes as long as its number says, and its value follows from two parameters alone
(Branin's function, 0.398 at best), so that all that differs is what runs them. For each way:
seconds from the command to the last trial's end; how busy the slots were; calls of this user that
Slurm's controller has answered (`sdiag`); files and folders left, which for hpctf are whole runs
with code and records; and the best value by the time at which the quickest way ended. Those that
look for ended jobs at long intervals run 40 trials alone.
"""

from __future__ import annotations

import json
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from benchmarks.bench import Bench, CannotMeasure, run
from benchmarks.figures import Figure, Goal, ratio, value
from benchmarks.peers import python_of
from benchmarks.queue import calls, wait_until_empty
from hpctf import Experiment, TensorFlow, tune

NEEDS = ("slurm", "submitit", "hydra", "dask-jobqueue", "snakemake")
SLOTS = 8
FEW, MANY = 40, 200
RANDOM, BY_HAND = "hpctf, agents, random", "by hand, `sbatch --array`"
WAYS: dict[str, tuple[str, int]] = {
    BY_HAND: ("by_hand", MANY),
    RANDOM: ("random", MANY),
    "hpctf, agents, TPE": ("tpe", MANY),
    "hpctf, `submit_array`": ("array", MANY),
    "submitit, `map_array`": ("map_array", MANY),
    "dask-jobqueue": ("dask", MANY),
    "Hydra, Optuna (TPE), submitit": ("hydra", FEW),
    "snakemake": ("snakemake", FEW),
}
"""Each way's function, and the most trials that it is given."""
UNITS = ("s", "% busy", "calls", "files", "best")
CPUS = 8
TRIAL = '''
import json, math, os, sys, time

def trial(number, x, y, folder):
    """Take as long as the number says, and return Branin's function: 0.398 at best."""
    began = time.time()
    time.sleep(1 + 2 * (number * 0.618 % 1))
    value = (y - 5.1 / (4 * math.pi**2) * x**2 + 5 / math.pi * x - 6) ** 2
    value += 10 * (1 - 1 / (8 * math.pi)) * math.cos(x) + 10
    name = f"{folder}/{os.uname().nodename}-{os.getpid()}-{began}"
    with open(name, "w") as file:
        json.dump([began, time.time(), value], file)
    return value
'''
OF_HPCTF = """
import os, sys
from hpctf import Run
from trial import trial
words = dict(zip(sys.argv[1::2], sys.argv[2::2]))
number = int(words.get("--number") or os.environ["HPCTF_RUN_ID"].rsplit("_", 1)[-1])
value = trial(number, float(words["--x"]), float(words["--y"]), words["--folder"])
Run.get_context().log("value", value)
"""
BATCH = """#!/bin/bash
#SBATCH --array=0-{last} --cpus-per-task={cpus} --output={folder}/logs/%a.log
{python} {folder}/by_hand.py $SLURM_ARRAY_TASK_ID
"""
MAP_ARRAY = """
import random, sys, submitit
sys.path.insert(0, {folder!r})
from trial import trial
executor = submitit.AutoExecutor({folder!r} + "/submitit")
executor.update_parameters(
    cpus_per_task={cpus}, timeout_min=60, slurm_array_parallelism={slots}, name="map"
)
points = {points!r}
jobs = executor.map_array(
    trial, range(len(points)), *zip(*points), [{times!r}] * len(points)
)
[job.result() for job in jobs]
"""
HYDRA = """
import sys
sys.path.insert(0, {folder!r})
import hydra
from hydra.core.hydra_config import HydraConfig
from trial import trial

@hydra.main(version_base=None, config_path=None)
def main(config):
    return trial(HydraConfig.get().job.num, config.x, config.y, {times!r})

main()
"""


def points(trials: int) -> list[tuple[float, float]]:
    """Return where each trial of a random search looks."""
    draw = random.Random(1)
    return [(draw.uniform(-5, 10), draw.uniform(0, 15)) for _ in range(trials)]


def agents(folder: Path, trials: int, slots: int, sampler: str) -> None:
    """A study of hpctf's."""
    space = {"x": "uniform(-5, 10)", "y": "uniform(0, 15)"}
    study = tune(
        _estimator(folder),
        space,
        "value",
        "minimize",
        trials,
        slots,
        sampler=sampler,
        seed=1,
        experiment=Experiment("bench", site="slurm", runs_root=folder / "runs"),
    )
    study.wait_for_completion()


def array(folder: Path, trials: int, slots: int) -> None:
    """A job array of hpctf's runs."""
    experiment = Experiment("bench", site="slurm", runs_root=folder / "runs")
    estimators = [
        _estimator(folder, "--number", str(number), "--x", str(x), "--y", str(y))
        for number, (x, y) in enumerate(points(trials))
    ]
    for child in experiment.submit_array(estimators):
        child.wait_for_completion()


def _estimator(folder: Path, *more: str) -> TensorFlow:
    project = folder / "project"
    project.mkdir(exist_ok=True)
    (project / "trial.py").write_text(TRIAL)
    (project / "train.py").write_text(OF_HPCTF)
    return TensorFlow(
        project,
        entry_script="train.py",
        python=sys.executable,
        arguments=["--folder", str(folder / "times"), *more],
        cpus_per_task=CPUS,
    )


def map_array(folder: Path, trials: int, slots: int) -> None:
    """submitit's job array."""
    (folder / "trial.py").write_text(TRIAL)
    words = {"folder": str(folder), "times": str(folder / "times"), "points": points(trials)}
    _run(
        python_of("submitit"), folder / "map.py", MAP_ARRAY.format(cpus=CPUS, slots=slots, **words)
    )


def hydra(folder: Path, trials: int, slots: int) -> None:
    """Hydra's launcher through submitit, with Optuna's sweeper."""
    (folder / "trial.py").write_text(TRIAL)
    text = HYDRA.format(folder=str(folder), times=str(folder / "times"))
    options = (
        *("--multirun", "hydra/launcher=submitit_slurm", "hydra/sweeper=optuna"),
        *(f"hydra.sweeper.n_trials={trials}", f"hydra.sweeper.n_jobs={slots}"),
        *("hydra.sweeper.direction=minimize", "hydra.sweeper.sampler.seed=1"),
        *(f"hydra.launcher.cpus_per_task={CPUS}", "hydra.launcher.timeout_min=60"),
        *("+x=interval(-5,10)", "+y=interval(0,15)"),
    )
    _run(python_of("hydra"), folder / "hydra_app.py", text, *options)


def write_by_hand(folder: Path, trials: int) -> None:
    """Write the script of a trial, which gets its number."""
    (folder / "trial.py").write_text(TRIAL)
    (folder / "by_hand.py").write_text(
        f"import sys\nfrom trial import trial\npoints = {points(trials)!r}\n"
        f"number = int(sys.argv[1])\ntrial(number, *points[number], {str(folder / 'times')!r})\n"
    )


def by_hand(folder: Path, trials: int, slots: int) -> None:
    """A job array; 8 CPUs per trial let as many run as there are slots."""
    write_by_hand(folder, trials)
    (folder / "logs").mkdir()
    batch = folder / "batch.sh"
    filled = BATCH.format(last=trials - 1, cpus=CPUS, folder=folder, python=sys.executable)
    batch.write_text(filled)
    run("sbatch", "--wait", batch)


DASK = """
import sys
sys.path.insert(0, {folder!r})
from dask.distributed import Client
from dask_jobqueue import SLURMCluster
from trial import trial

if __name__ == "__main__":
    cluster = SLURMCluster(
        cores=1,
        processes=1,
        memory="4GB",
        job_cpu={cpus},
        walltime="01:00:00",
        interface="eth0",
        scheduler_options={{"interface": "hpctf-br"}},
        local_directory="/tmp",
        log_directory={folder!r},
        job_script_prologue=["export PYTHONPATH=" + {folder!r}],
    )
    cluster.scale(jobs={slots})
    client = Client(cluster)
    points = {points!r}
    columns = range(len(points)), *zip(*points), [{times!r}] * len(points)
    client.gather(client.map(trial, *columns, pure=False))
    client.close()
    cluster.close()
"""
SNAKEFILE = """
rule all:
    input: expand("done/{{number}}", number=range({trials}))
rule trial:
    output: "done/{{number}}"
    resources: cpus_per_task={cpus}, mem_mb=4000, runtime=60, slurm_partition="normal"
    shell: "{python} {folder}/by_hand.py {{wildcards.number}} && touch {{output}}"
"""


def dask(folder: Path, trials: int, slots: int) -> None:
    """dask-jobqueue: a worker per slot, each a job."""
    (folder / "trial.py").write_text(TRIAL)
    words = {"folder": str(folder), "times": str(folder / "times"), "points": points(trials)}
    text = DASK.format(cpus=CPUS, slots=slots, **words)
    _run(python_of("dask-jobqueue"), folder / "with_dask.py", text)


def snakemake(folder: Path, trials: int, slots: int) -> None:
    """snakemake's executor for Slurm: a job per trial."""
    write_by_hand(folder, trials)
    words = {"folder": folder, "python": sys.executable, "cpus": CPUS, "trials": trials}
    (folder / "Snakefile").write_text(SNAKEFILE.format(**words))
    python = python_of("snakemake")
    options = ("--executor", "slurm", "--jobs", str(slots), "--cores", str(slots * CPUS))
    options += ("--seconds-between-status-checks", "1", "--latency-wait", "30")
    options += ("--slurm-init-seconds-before-status-checks", "1")
    run(python.with_name("snakemake"), *options, cwd=folder)


def _run(python: str | Path, script: Path, text: str, *words: str) -> None:
    script.write_text(text)
    run(python, script, *words, cwd=script.parent)


FUNCTIONS: dict[str, Callable[[Path, int, int], None]] = {
    "by_hand": by_hand,
    "random": partial(agents, sampler="random"),
    "tpe": partial(agents, sampler="tpe"),
    "array": array,
    "map_array": map_array,
    "dask": dask,
    "hydra": hydra,
    "snakemake": snakemake,
}
GOALS = (
    Goal("agents ≤ 1.2 × by hand, 200 trials", ratio(RANDOM, BY_HAND, MANY), most=1.2),
    Goal("best value by TPE ≤ 0.5", value("hpctf, agents, TPE", MANY, "best"), most=0.5),
)


def measure(bench: Bench) -> Iterator[Figure]:
    for trials in (FEW, MANY)[: bench.rounds(2)]:
        measured: dict[str, Trials] = {}
        for number, (case, (function, most)) in enumerate(WAYS.items()):
            if trials > most:
                continue
            folder = bench.folder / f"{trials}-{number}"
            try:
                measured[case] = ran(folder, trials, FUNCTIONS[function])
            except CannotMeasure as error:
                yield Figure(case, "s", size=trials, size_of="trials", reason=str(error))
            print(f"  {trials} trials, {case}", file=sys.stderr, flush=True)
        quickest = min(found.seconds for found in measured.values())
        for case, found in measured.items():
            for unit, number in zip(UNITS, found.numbers(quickest), strict=True):
                yield Figure(case, unit, (number,), trials, "trials")


@dataclass(frozen=True)
class Trials:
    """What a way took: `rows` are each trial's beginning and end, since the command, and value."""

    seconds: float
    calls: int
    files: int
    rows: list[tuple[float, float, float]]

    def numbers(self, quickest: float) -> tuple[float, ...]:
        """Return its figures, in the order of `UNITS`."""
        span = max(row[1] for row in self.rows) - min(row[0] for row in self.rows)
        busy = 100 * sum(row[1] - row[0] for row in self.rows) / (SLOTS * span)
        best = min((row[2] for row in self.rows if row[1] <= quickest), default=float("inf"))
        return self.seconds, busy, float(self.calls), float(self.files), best


def ran(folder: Path, trials: int, way: Callable[[Path, int, int], None]) -> Trials:
    """Run trials in one way."""
    (folder / "times").mkdir(parents=True)
    wait_until_empty()
    before, began = calls(), time.time()
    way(folder, trials, SLOTS)
    called = calls() - before - 1  # this question
    times = [json.loads(path.read_text()) for path in (folder / "times").iterdir()]
    if len(times) != trials:
        raise CannotMeasure(f"{len(times)} of {trials} trials have run")
    left = sum(len(folders) + len(files) for _, folders, files in os.walk(folder)) - trials
    rows = sorted((begun - began, ended - began, found) for begun, ended, found in times)
    return Trials(max(row[1] for row in rows), called, left, rows)
