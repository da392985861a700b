"""Snapshots of the code

What a submission takes to copy the source folder into the run folder, on this machine's disk: the
first one of a folder, and again while nothing has changed. `cp -r` writes the same files.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import Bench, timed
from benchmarks.figures import Figure, Goal, ratio
from hpctf.source.snapshot import take_snapshot

SIZES = (10, 1_000, 20_000)
FILE = b"x = 1\n" * 500
FIRST, AGAIN, PLAIN = "first", "again", "cp -r"
LARGE = "one file of 1 GB"
WHY = "A snapshot copies every file anew: unchanged files are not shared between snapshots yet."
GOALS = (
    Goal("again ≤ 10 % of the first, 20,000 files", ratio(AGAIN, FIRST, 20_000), most=0.1, why=WHY),
    Goal(
        "again ≤ 10 % of the first, 1 GB", ratio(f"{LARGE}, again", f"{LARGE}, first"), 0.1, why=WHY
    ),
)


def measure(bench: Bench) -> Iterator[Figure]:
    for size in bench.of(SIZES, (10, 1_000)):
        source = bench.folder / f"source-{size}"
        for number in range(size):
            folder = source / f"package{number // 100}"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"module{number}.py").write_bytes(FILE)
        yield from copied(bench, source, "", size)
        shutil.rmtree(source)

    source = bench.folder / "large"
    source.mkdir()
    with (source / "data.bin").open("wb") as file:
        block = bytes(range(256)) * 4096
        for _ in range(bench.of(1000, 10)):
            file.write(block)
    yield from copied(bench, source, f"{LARGE}, ", None)


def copied(bench: Bench, source: Path, prefix: str, size: int | None) -> Iterator[Figure]:
    """Measure the copies of a folder."""
    values: dict[str, list[float]] = {FIRST: [], AGAIN: [], PLAIN: []}
    for number in range(bench.rounds(5)):
        runs = bench.folder / "runs/e"
        runs.mkdir(parents=True)
        values[FIRST].append(snapshot(source, runs / f"first{number}"))
        values[AGAIN].append(snapshot(source, runs / f"again{number}"))
        values[PLAIN].append(timed("cp", "-r", source, runs / "plain"))
        shutil.rmtree(bench.folder / "runs")
    for case, seconds in values.items():
        base = f"{prefix}{FIRST}" if case == AGAIN else ""
        yield Figure(f"{prefix}{case}", "s", tuple(seconds), size, "files" if size else "", base)


def snapshot(source: Path, run: Path) -> float:
    """Return the seconds of a snapshot into a run folder."""
    run.mkdir()
    began = time.perf_counter()
    take_snapshot(source, run / "snapshot", max_mb=2000)
    return time.perf_counter() - began
