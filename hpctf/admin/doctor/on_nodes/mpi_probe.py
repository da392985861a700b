"""MPI, really used through mpi4py: how large the world is, and how fast every pair talks.

``python mpi_probe.py PREFIX`` in each rank writes ``PREFIX-<host>-<pid>.json``. Without a launcher
that the MPI library knows, each rank is alone in a world of one, and so writes a file of its own.
"""

from __future__ import annotations

import itertools
import json
import os
import statistics
import sys
import time
from array import array
from typing import Any

SMALL = 8
"""Bytes of a message whose time is the latency."""
LARGE = 1 << 20
"""Bytes of a message whose time is the bandwidth's."""
PAIR_S = 0.5
"""Seconds that a pair may take for each of the two; all pairs take turns."""
ROUNDS = 6
"""How often at most a pair is measured."""
SUSPECT = 3.0
"""A pair that is so many times worse than the best pair is measured again."""
FLOATS = 1 << 18
"""Numbers of the allreduce: 1 MiB."""


def main(prefix: str) -> int:
    """Measure, and write down what came out."""
    import mpi4py
    from mpi4py import MPI

    comm = MPI.COMM_WORLD
    found: dict[str, Any] = {
        "host": os.environ.get("SLURMD_NODENAME") or os.uname().nodename,
        "rank": comm.Get_rank(),
        "size": comm.Get_size(),
        "mpi4py": mpi4py.__version__,
        "library": MPI.Get_library_version().split(",")[0].split("\n")[0].strip("\0 "),
    }
    if found["size"] > 1:
        found["hosts"] = comm.allgather(found["host"])
        found["pairs"] = pairs(comm, MPI)
        found["allreduce_s"] = allreduce(comm, MPI)
    path = f"{prefix}-{found['host']}-{os.getpid()}.json"
    with open(f"{path}.tmp", "w", encoding="utf-8") as stream:
        json.dump(found, stream)
    os.replace(f"{path}.tmp", path)
    return 0


def pairs(comm: Any, mpi: Any) -> list[dict[str, Any]]:
    """Return latency and bandwidth of the pairs in which this rank is the first. What seems slow is
    measured again: the CPU may have been busy for a moment, which says nothing of the link."""
    rank = comm.Get_rank()
    best: dict[tuple[int, int], dict[str, float]] = {}
    turns = list(itertools.combinations(range(comm.Get_size()), 2))
    for _ in range(ROUNDS):
        ours = {}
        for first, second in turns:
            meet(comm)
            if rank == first:
                ours[first, second] = lead(comm, mpi, second)
            elif rank == second:
                follow(comm, mpi, first)
        meet(comm)
        everybodys = (found.items() for found in comm.allgather(ours))
        for pair, new in itertools.chain.from_iterable(everybodys):
            old = best.get(pair, new)
            best[pair] = {
                "latency_s": min(old["latency_s"], new["latency_s"]),
                "bandwidth": max(old["bandwidth"], new["bandwidth"]),
            }
        turns = seem_slow(best)
        if not turns:
            break
    return [{"ranks": pair, **best[pair]} for pair in sorted(best) if pair[0] == rank]


def seem_slow(found: dict[tuple[int, int], dict[str, float]]) -> list[tuple[int, int]]:
    """Return the pairs that are far worse than the best, in order."""
    latency = min(pair["latency_s"] for pair in found.values())
    width = max(pair["bandwidth"] for pair in found.values())
    return [
        pair
        for pair, one in sorted(found.items())
        if one["latency_s"] > SUSPECT * latency or one["bandwidth"] < width / SUSPECT
    ]


def meet(comm: Any) -> None:
    """Wait for all ranks, asleep: MPI's own waiting takes a CPU, which a pair may need."""
    met = comm.Ibarrier()
    while not met.Test():
        time.sleep(0.001)


def lead(comm: Any, mpi: Any, other: int) -> dict[str, float]:
    """Send to and fro, as often as there is time for; see `follow`."""
    trips = {}
    for size in (SMALL, LARGE):
        buffer = [bytearray(size), mpi.BYTE]
        took: list[float] = []
        until = time.perf_counter() + PAIR_S
        while len(took) < 3 or (time.perf_counter() < until and len(took) < 1000):
            comm.send(size, other, 1)
            began = time.perf_counter()
            comm.Send(buffer, other)
            comm.Recv(buffer, other)
            took.append(time.perf_counter() - began)
        # The quickest: what the link can do. A rank that waits for a busy CPU says nothing of it.
        trips[size] = min(took)
    comm.send(0, other, 1)
    return {"latency_s": trips[SMALL] / 2, "bandwidth": 2 * LARGE / trips[LARGE]}


def follow(comm: Any, mpi: Any, other: int) -> None:
    """Send back what comes, until told that it was all."""
    while True:
        size = comm.recv(source=other, tag=1)
        if not size:
            return
        buffer = [bytearray(size), mpi.BYTE]
        comm.Recv(buffer, other)
        comm.Send(buffer, other)


def allreduce(comm: Any, mpi: Any) -> float:
    """Return the seconds that adding up 1 MiB over all ranks takes."""
    ours, total = array("f", [1.0]) * FLOATS, array("f", [0.0]) * FLOATS
    took = []
    for _ in range(5):
        comm.Barrier()
        began = time.perf_counter()
        comm.Allreduce([ours, mpi.FLOAT], [total, mpi.FLOAT])
        took.append(time.perf_counter() - began)
    if total[0] != comm.Get_size():
        raise ArithmeticError(f"{comm.Get_size()} ranks of 1 add up to {total[0]}")
    return statistics.median(took)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
