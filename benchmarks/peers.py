"""Other launchers, each in a pinned environment of its own whose bytecode is compiled; and the
environment that trains. The runner builds them, as root; rows find their interpreters."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path

from benchmarks.bench import CannotMeasure
from tests.support.built import build_environment, kept

PEERS = {
    "submitit": ("submitit==1.5.4",),
    "torchx": ("torchx==0.7.0",),
    # With a later leptonai, nemo_run does not import.
    "nemo-run": ("nemo-run==0.11.1", "leptonai==0.26.6"),
    "hydra": (
        *("hydra-core==1.3.8", "hydra-submitit-launcher==1.2.0", "hydra-optuna-sweeper==1.3.0"),
        "submitit==1.5.4",
    ),
    "dask-jobqueue": ("dask-jobqueue==0.9.0",),
    "snakemake": ("snakemake==9.27.1", "snakemake-executor-plugin-slurm==2.8.0"),
    "matplotlib": ("matplotlib==3.11.2",),
}
TRAINING = "training"
"""TensorFlow and Horovod, as the tests have it."""

_VARIABLE = "BENCHMARK_PYTHONS"


def build(names: Iterable[str]) -> dict[str, str]:
    """Build the environments that are not kept; return the variable by which rows find them."""
    pythons = {}
    for name in names:
        if name == TRAINING:
            made = build_environment("2.21")
        else:
            made = kept(f"bench-{name}", list(PEERS[name]), "--compile-bytecode")
        lines = made.stderr.strip().splitlines() or ["no output"]
        reason = f"cannot be installed: {lines[-1][:200]}"
        pythons[name] = [made.stdout.strip(), reason if made.returncode else ""]
    return {_VARIABLE: json.dumps(pythons)}


def python_of(name: str) -> Path:
    """Return the interpreter of an environment that the runner has built for this row.

    Raises
    ------
    CannotMeasure
        It cannot be installed; the message says why.
    """
    python, reason = json.loads(os.environ[_VARIABLE])[name]
    if reason:
        raise CannotMeasure(reason)
    return Path(python)
