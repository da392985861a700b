"""The smallest program that runs a script on 2 nodes, for each launcher, and by hand."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.bench import HPCTF
from benchmarks.peers import python_of

NEEDS = ("slurm", "submitit", "torchx", "nemo-run")
BY_HAND, SUBMITIT, TORCHX, NEMO_RUN = "by hand", "submitit", "TorchX", "NeMo-Run"
OURS = "hpctf"

Command = list[str | Path]

_BATCH = """#!/bin/bash
#SBATCH --nodes=2 --ntasks-per-node=1 --output={folder}/by-hand.log
srun {python} {script}
"""
_SUBMITIT = """
import runpy, sys, submitit
folder, python, script, found, wait = sys.argv[1:]
executor = submitit.SlurmExecutor(folder, python=python)
executor.update_parameters(
    nodes=2, ntasks_per_node=1, setup=["export PYTHONPATH=" + found]
)
def run():
    runpy.run_path(script, run_name="__main__")
job = executor.submit(run)
if wait:
    job.results()
"""
_NEMO_RUN = """
import sys
import nemo_run as run
folder, python, script, wait = sys.argv[1:]
run.config.set_nemorun_home(folder)
executor = run.SlurmExecutor(
    account="bench",
    partition="normal",
    nodes=2,
    ntasks_per_node=1,
    time="00:10:00",
    mem=None,
    packager=run.Packager(),
)
script = run.Script(inline=python + " " + script)
run.run(script, executor=executor, detach=not wait, tail_logs=False)
"""


@dataclass(frozen=True)
class Launch:
    """How a script is launched.

    Parameters
    ----------
    folder
        Where the launchers keep their files.
    script, python
        What runs, and by which interpreter.
    wait
        Whether the command waits for the job's end.
    """

    folder: Path
    script: Path
    python: str | Path = sys.executable
    wait: bool = False

    def commands(self, quick: bool = False) -> dict[str, Callable[[], Command]]:
        """Return what makes the command of each launcher; a quick one is without those that
        need environments of their own."""
        if quick:
            submitit = lambda: self.submitit(sys.executable)  # noqa: E731
            return {BY_HAND: self.by_hand, SUBMITIT: submitit, OURS: self.ours}
        return {
            BY_HAND: self.by_hand,
            SUBMITIT: self.submitit,
            OURS: self.ours,
            TORCHX: self.torchx,
            NEMO_RUN: self.nemo_run,
        }

    def by_hand(self) -> Command:
        """A batch script."""
        batch = self.folder / "by-hand.sh"
        batch.write_text(_BATCH.format(folder=self.folder, python=self.python, script=self.script))
        return ["sbatch", *(["--wait"] if self.wait else []), batch]

    def ours(self) -> Command:
        """The command of hpctf."""
        words = [HPCTF, "submit", "--site", "slurm", "--backend", "mpi", "--nodes", "2"]
        words += ["--wait"] if self.wait else []
        return [*words, "--python", self.python, self.script]

    def submitit(self, python: str | Path | None = None) -> Command:
        """A program with submitit. Its packages are the script's, too: they are of Python alone."""
        python = python or python_of("submitit")
        [found] = Path(python).parent.parent.glob("lib/python*/site-packages")
        words = [self.folder / "submitit", self.python, self.script, found]
        return [python, "-c", _SUBMITIT, *words, "wait" if self.wait else ""]

    def torchx(self) -> Command:
        """TorchX's command line, with its component for any program."""
        words = ["-c", "from torchx.cli.main import main; main()", "run", "--scheduler", "slurm"]
        words += ["--wait"] if self.wait else []
        words += ["-cfg", "partition=normal,nomem=true", "utils.sh", "--num_replicas", "2"]
        return [python_of("torchx"), *words, self.python, self.script]

    def nemo_run(self) -> Command:
        """A program with NeMo-Run."""
        words = [self.folder / "nemo-run", self.python, self.script, "wait" if self.wait else ""]
        return [python_of("nemo-run"), "-c", _NEMO_RUN, *words]
