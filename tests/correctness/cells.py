"""The matrix: which combinations there are, which script trains each, and on how many ranks."""

from __future__ import annotations

from dataclasses import dataclass

BACKENDS = ("single", "mpi", "ps", "collective")
LIBRARIES = ("Keras 3", "tf-keras", "GradientTape")
RANKS = (2, 4)

EXACT = 1e-5
"""How far a weight may be from that of one process on the whole batches. A sum of float32 in
another order is off by 6e-8 of its largest part; momentum 0.9 counts each of the 12 steps up to
ten times, which makes 7e-6 of weights and gradients of order 1."""

LEGACY = ("--env", "TF_USE_LEGACY_KERAS=1")
KERAS_3 = ("--env", "TF_USE_LEGACY_KERAS=0")


@dataclass(frozen=True)
class Job:
    """A job on the cluster; it serves several combinations, since its start is what takes long."""

    script: str
    words: tuple[str, ...] = ()


def nodes(backend: str, count: int, *words: str) -> tuple[str, ...]:
    return ("--backend", backend, "--nodes", str(count), *words)


def servers(workers: int, *words: str) -> tuple[str, ...]:
    asked = ("--backend", "ps", "--workers", str(workers), "--ps", "1")
    return (*asked, "--ps-placement", "shared", *words)


ALONE = Job("alone.py")
ALONE_LEGACY = Job("alone.py", LEGACY)
MPI = {count: Job("on_mpi.py", nodes("mpi", count)) for count in RANKS}
MPI_LEGACY = {
    2: Job("on_mpi_legacy.py", nodes("mpi", 2, *LEGACY)),
    4: Job("on_mpi_legacy.py", nodes("mpi", 2, "--procs-per-node", "2", *LEGACY)),
}
COLLECTIVE = {count: Job("on_collective.py", nodes("collective", count)) for count in RANKS}
PS = {count: Job("on_ps.py", servers(count)) for count in RANKS}


@dataclass(frozen=True)
class Cell:
    """A combination that trains right.

    Parameters
    ----------
    jobs
        The job that trains it, by the number of ranks (ps: of workers).
    name
        What its weights are called there.
    alone, alone_name
        The job of one process that it is compared with, and the weights there.
    """

    backend: str
    library: str
    how: str
    jobs: dict[int, Job]
    name: str
    alone: Job = ALONE
    alone_name: str = "tape"


SYNCHRONOUS = [
    Cell("single", "Keras 3", "`fit`", {1: ALONE}, "fit"),
    Cell("single", "tf-keras", "`fit`", {1: ALONE_LEGACY}, "fit"),
    Cell("single", "GradientTape", "TensorFlow alone", {1: ALONE_LEGACY}, "tape"),
    Cell("mpi", "Keras 3", "`hpctf.keras`, `fit`", MPI, "fit", ALONE, "fit"),
    Cell("mpi", "Keras 3", "the same, clipping", MPI, "fit-clipped", ALONE, "fit-clipped"),
    Cell("mpi", "Keras 3", "Horovod's tape, `v.value`", MPI, "loop", ALONE, "fit"),
    Cell("mpi", "tf-keras", "Horovod's module, `fit`", MPI_LEGACY, "fit", ALONE_LEGACY, "fit"),
    Cell(
        "mpi",
        "tf-keras",
        "the same, clipping",
        MPI_LEGACY,
        "fit-clipped",
        ALONE_LEGACY,
        "fit-clipped",
    ),
    Cell("mpi", "tf-keras", "Horovod's tape", MPI_LEGACY, "loop", ALONE_LEGACY, "fit"),
    Cell("mpi", "GradientTape", "Horovod's tape", MPI, "tape"),
    Cell("collective", "tf-keras", "`fit`", COLLECTIVE, "fit", ALONE_LEGACY, "fit"),
    Cell(
        "collective",
        "tf-keras",
        "the same, clipping",
        COLLECTIVE,
        "fit-clipped",
        ALONE_LEGACY,
        "fit-clipped",
    ),
    Cell("collective", "tf-keras", "`strategy.run`", COLLECTIVE, "loop", ALONE_LEGACY, "fit"),
    Cell(
        "collective",
        "tf-keras",
        "the same, clipping",
        COLLECTIVE,
        "loop-clipped",
        ALONE_LEGACY,
        "fit-clipped",
    ),
    Cell("collective", "GradientTape", "`strategy.run`", COLLECTIVE, "tape"),
]

SERVED = [
    Cell("ps", "tf-keras", "`fit` with a `DatasetCreator`", PS, "fit", ALONE_LEGACY, "fit"),
    Cell("ps", "tf-keras", "`ClusterCoordinator.schedule`", PS, "loop", ALONE_LEGACY, "loop"),
    Cell("ps", "GradientTape", "`ClusterCoordinator.schedule`", PS, "tape", ALONE_LEGACY),
]

NOT_TRAINED = {("ps", "Keras 3"), ("collective", "Keras 3")}
"""Combinations that are refused, whatever the script does with them."""
