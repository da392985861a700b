"""Checking an environment before it is called ready: TensorFlow imports, and two ranks agree."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from hpctf.environment.build_commands import Commands
from hpctf.environment.spec import EnvironmentSpec
from hpctf.environment.toolchain import is_open_mpi
from hpctf.errors import BuildError
from hpctf.scheduler.programs import environment_of
from hpctf.site.model import MpiSettings

_TIMEOUT_S = 600.0

_IMPORT = """
import json, sys
import tensorflow as tf
print("TensorFlow", tf.__version__, flush=True)
with open(sys.argv[1], "w") as to:
    json.dump({"tensorflow": tf.__version__}, to)
"""

_ALLREDUCE = """
import json, sys
import tensorflow as tf
import horovod, horovod.tensorflow as hvd
hvd.init()
rank, size = hvd.rank(), hvd.size()
if size != int(sys.argv[2]):
    sys.exit(f"rank {rank} sees {size} ranks, not {sys.argv[2]}: this MPI does not start them")
numbers = [rank + 1.0, 10.0 * (rank + 1)]
right = [float(sum(range(1, size + 1))), 10.0 * sum(range(1, size + 1))]
summed = hvd.allreduce(tf.constant(numbers), op=hvd.Sum, name="check").numpy().tolist()
if summed != right:
    sys.exit(f"rank {rank}: Horovod's allreduce made {summed} of it, not {right}")
from mpi4py import MPI
total = MPI.COMM_WORLD.allreduce(rank + 1)
if MPI.COMM_WORLD.Get_size() != size or total != right[0]:
    sys.exit(f"rank {rank}: mpi4py's allreduce made {total} of it, not {right[0]}")
print("rank", rank, "of", size, "summed", summed, flush=True)
if rank == 0:
    with open(sys.argv[1], "w") as to:
        json.dump({"tensorflow": tf.__version__, "horovod": horovod.__version__,
                   "mpi_library": MPI.Get_library_version().splitlines()[0].strip("\\0 "),
                   "ranks": size, "allreduce": summed}, to)
"""


def check(
    spec: EnvironmentSpec, python: Path, commands: Commands, work: Path, mpi: MpiSettings
) -> dict[str, Any]:
    """Return what the environment answers: versions, and what two ranks have summed.

    Raises
    ------
    BuildError
        TensorFlow cannot be imported, or the ranks do not find each other, or sum wrongly.
    """
    answers = work / "checked.json"
    script = work / "check.py"
    quiet = {"TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": ""}
    if not spec.horovod:
        script.write_text(_IMPORT)
        commands.run([python, script, answers], "Importing TensorFlow", quiet)
    else:
        launch, ranks, variables = _launch(commands, spec, mpi)
        script.write_text(_ALLREDUCE)
        commands.run(
            [*launch, str(python), str(script), str(answers), str(ranks)],
            f"An allreduce of {ranks} ranks",
            {**quiet, **variables},
            timeout=_TIMEOUT_S,
        )
    try:
        found: dict[str, Any] = json.loads(answers.read_text())
    except (OSError, ValueError):
        raise commands.failed("Checking the environment", "it gave no answer") from None
    return found


def _launch(
    commands: Commands, spec: EnvironmentSpec, mpi: MpiSettings
) -> tuple[list[str], int, Mapping[str, str]]:
    """Return the words that start ranks here, how many, and the variables they need."""
    in_job = "SLURM_JOB_ID" in os.environ
    mpirun, srun = commands.program("mpirun"), commands.program("srun")
    shared = {"OMPI_MCA_mpi_yield_when_idle": "1"}
    if in_job and srun and mpi.launcher == "srun" and mpi.plugin:
        words = [srun, f"--mpi={mpi.plugin}", "--nodes=1", "--ntasks=2", "--overlap"]
        of_job = environment_of("step").items()
        shared |= {name: value for name, value in of_job if name.startswith("SLURM_")}
        return [*words, "--overcommit", "--cpu-bind=none"], 2, shared
    if mpirun is None:
        return [], 1, shared
    words = [mpirun, "-np", "2"]
    if is_open_mpi(spec.mpi):
        words += ["--oversubscribe", "--bind-to", "none"]
        if os.geteuid() == 0:
            shared |= {"OMPI_ALLOW_RUN_AS_ROOT": "1", "OMPI_ALLOW_RUN_AS_ROOT_CONFIRM": "1"}
    return words, 2, shared


def check_mpi(spec: EnvironmentSpec, found: str) -> None:
    """Refuse to build for another MPI than the one that the environment is named after."""
    if not found:
        raise BuildError(
            f"There is no MPI to build Horovod with on {os.uname().nodename}: no mpicc on PATH.",
            "Load its module (modules in the site file), or install its development files.",
        )
    if spec.mpi and found != spec.mpi:
        raise BuildError(
            f"The environment is for {spec.mpi}, but {os.uname().nodename} has {found}.",
            "Build on a machine like those that the training runs on: environments.build_on.",
        )
