"""200 trials of 1 to 3 seconds on Slurm, side by side: hpctf's agents, a job array of runs,
submitit's ``map_array``, Hydra's submitit launcher with Optuna's sweeper, and by hand.

    python benchmarks/trials.py FOLDER --peers PYTHON [--trials N] [--slots P]

FOLDER lies on the file system that the nodes share. Needs a Slurm with P free slots of CPUS CPUs
(`tests/cluster/up` makes one: 4 nodes, 16 CPUs each). PYTHON is of an environment with
``hydra-core hydra-submitit-launcher hydra-optuna-sweeper submitit``. Run it as an ordinary user:
root's calls cannot be told from the daemons'.

Every trial takes as long as its number says, and its value follows from two parameters alone, so
that all that differs is what runs them. For each way: seconds from the command to the last trial's
end; how busy the slots were from the first trial's first line to the last one's end; calls to
Slurm by this user (sdiag); files and folders left; and the best value after as many seconds as the
quickest way took.
"""

from __future__ import annotations

import argparse
import getpass
import json
import os
import random
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from hpctf import Experiment, TensorFlow, tune

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
BY_HAND = """#!/bin/bash
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
    experiment = Experiment("bench", site="slurm", runs_root=folder / "runs")
    estimators = [
        _estimator(folder, "--number", str(number), "--x", str(x), "--y", str(y))
        for number, (x, y) in enumerate(points(trials))
    ]
    for run in experiment.submit_array(estimators):
        run.wait_for_completion()


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


def map_array(folder: Path, trials: int, slots: int, python: str) -> None:
    (folder / "trial.py").write_text(TRIAL)
    words = {"folder": str(folder), "times": str(folder / "times"), "points": points(trials)}
    _run(python, folder / "map.py", MAP_ARRAY.format(cpus=CPUS, slots=slots, **words))


def hydra(folder: Path, trials: int, slots: int, python: str) -> None:
    (folder / "trial.py").write_text(TRIAL)
    text = HYDRA.format(folder=str(folder), times=str(folder / "times"))
    options = (
        *("--multirun", "hydra/launcher=submitit_slurm", "hydra/sweeper=optuna"),
        *(f"hydra.sweeper.n_trials={trials}", f"hydra.sweeper.n_jobs={slots}"),
        *("hydra.sweeper.direction=minimize", "hydra.sweeper.sampler.seed=1"),
        *(f"hydra.launcher.cpus_per_task={CPUS}", "hydra.launcher.timeout_min=60"),
        *("+x=interval(-5,10)", "+y=interval(0,15)"),
    )
    _run(python, folder / "hydra_app.py", text, *options)


def by_hand(folder: Path, trials: int, slots: int) -> None:
    (folder / "trial.py").write_text(TRIAL)
    (folder / "logs").mkdir()
    (folder / "by_hand.py").write_text(
        f"import sys\nfrom trial import trial\npoints = {points(trials)!r}\n"
        f"number = int(sys.argv[1])\ntrial(number, *points[number], {str(folder / 'times')!r})\n"
    )
    batch = folder / "batch.sh"
    filled = BY_HAND.format(last=trials - 1, cpus=CPUS, folder=folder, python=sys.executable)
    batch.write_text(filled)
    subprocess.run(["sbatch", "--wait", batch], check=True, stdout=subprocess.DEVNULL)


def _run(python: str, script: Path, text: str, *words: str) -> None:
    script.write_text(text)
    with (script.parent / "said").open("w") as said:
        subprocess.run([python, script, *words], check=True, cwd=script.parent, stdout=said)


def calls() -> int:
    """Return how many calls of this user Slurm's controller has answered."""
    told = subprocess.run(["sdiag"], check=True, capture_output=True, text=True).stdout
    found = re.search(rf"^\s*{getpass.getuser()}\s*\(.*?count:(\d+)", told, re.MULTILINE)
    return int(found[1]) if found else 0


def measured(
    folder: Path, trials: int, run: Callable[[Path], None]
) -> tuple[float, int, list[list[float]], int]:
    """Return a way's seconds, its calls, what its trials wrote, and what it left."""
    folder.mkdir(parents=True)
    (folder / "times").mkdir()
    before, began = calls(), time.time()
    run(folder)
    called = calls() - before
    times = sorted(json.loads(path.read_text()) for path in (folder / "times").iterdir())
    assert len(times) == trials, f"{len(times)} of {trials} trials have run: {folder}"
    left = sum(len(folders) + len(files) for _, folders, files in os.walk(folder)) - trials
    rows = [[one[0] - began, one[1] - began, one[2]] for one in times]
    return max(row[1] for row in rows), called, rows, left


def main() -> None:
    """Run all ways, one after another, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a folder that the nodes share")
    parser.add_argument("--peers", help="the Python of an environment with Hydra and submitit")
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--slots", type=int, default=8)
    parser.add_argument(
        "--without",
        help="a way to leave out, such as Hydra: a wave of its trials "
        "takes as long as submitit waits between two looks",
    )
    given = parser.parse_args()
    trials, slots, python = given.trials, given.slots, given.peers
    ways: dict[str, Callable[[Path], None]] = {
        "by hand, sbatch --array": lambda to: by_hand(to, trials, slots),
        "hpctf, agents, random": lambda to: agents(to, trials, slots, "random"),
        "hpctf, agents, TPE": lambda to: agents(to, trials, slots, "tpe"),
        "hpctf, array of runs": lambda to: array(to, trials, slots),
    }
    if python:
        ways["submitit map_array"] = lambda to: map_array(to, trials, slots, python)
        ways["Hydra, Optuna (TPE), submitit"] = lambda to: hydra(to, trials, slots, python)
    if given.without:
        ways = {name: run for name, run in ways.items() if given.without not in name}
    given.folder.mkdir(parents=True, exist_ok=True)
    found = {}
    for number, (name, run) in enumerate(ways.items()):
        found[name] = measured(given.folder.absolute() / str(number), trials, run)
        print(f"{name}: {found[name][0]:.1f} s", flush=True)
    quickest = min(seconds for seconds, *_ in found.values())
    best_at = f"best at {quickest:.0f} s"
    print(f"\n| {trials} trials, {slots} slots | s | busy | calls | files | {best_at} |")
    print("|---|---|---|---|---|---|")
    for name, (seconds, called, rows, left) in found.items():
        span = max(row[1] for row in rows) - min(row[0] for row in rows)
        busy = sum(row[1] - row[0] for row in rows) / (slots * span)
        best = min((row[2] for row in rows if row[1] <= quickest), default=float("nan"))
        print(f"| {name} | {seconds:.1f} | {100 * busy:.1f} % | {called} | {left} | {best:.3f} |")


if __name__ == "__main__":
    main()
