"""The rows of the page, in its order: each is a module of this package.

Its docstring is what the page says of it, the first line as a title. It may have `GOALS`, `NEEDS`,
`NODES` and `QUICK`; its ``measure(bench)`` yields figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Protocol, cast

from benchmarks.bench import Bench
from benchmarks.figures import Figure, Goal

ROWS = (
    "first_step",
    "trials",
    "studies",
    "submit",
    "launch",
    "ends",
    "load",
    "listing",
    "cluster_spec",
    "snapshots",
    "steps",
    "wrapper",
    "samples",
    "tracking",
    "watch",
    "reading",
    "growth",
    "tuning",
    "many_nodes",
    "controller",
)
SLURM = "slurm"
"""A row that needs the test cluster, and is measured by its ordinary user: root's calls could not
be told from the daemons'."""


class Row(Protocol):
    """What a row's module has."""

    __doc__: str

    def measure(self, bench: Bench) -> Iterator[Figure]:
        """Yield figures."""


def load(name: str) -> Row:
    """Return a row's module."""
    return cast(Row, import_module(f"benchmarks.{name}"))


def goals(row: Row) -> tuple[Goal, ...]:
    """Return what a row is held against."""
    return getattr(row, "GOALS", ())


def needs(row: Row) -> tuple[str, ...]:
    """Return what a row needs: `SLURM`, and environments of `benchmarks.peers`."""
    return getattr(row, "NEEDS", ())


def nodes(row: Row) -> int:
    """Return how many nodes of the test cluster a row needs."""
    return getattr(row, "NODES", 4)


def in_quick(row: Row) -> bool:
    """Return whether a row can be measured within seconds, without Slurm and TensorFlow."""
    return getattr(row, "QUICK", not needs(row))
