"""Snapshots of the code

What a submission takes to copy the source folder into the run folder, on this machine's disk: the
first one of a folder, and again while nothing has changed. `cp -r` writes the same files. XFS, in a
file on that disk, lets files share their blocks; `cp -r` does not use that here.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

from benchmarks.bench import Bench, timed
from benchmarks.figures import Figure, Goal, ratio
from hpctf.source.snapshot import take_snapshot
from tests.support.disks import cloning

SIZES = (10, 1_000, 20_000)
FILE = b"x = 1\n" * 500
FIRST, AGAIN, PLAIN = "first", "again", "cp -r"
LARGE = "one file of 1 GB"
CLONED = f"{LARGE}, XFS"
SMALL_WHY = """Files that share their blocks have to be made, too, and for small ones that is what
takes the time. Hard links would be as safe only if no script ever wrote its own files."""
WHY = "ext4 cannot clone files; hard links would be as safe only if no script ever wrote its own."
GOALS = (
    Goal(
        "again ≤ 10 % of the first, 20,000 files", ratio(AGAIN, FIRST, 20_000), 0.1, why=SMALL_WHY
    ),
    Goal(
        "again ≤ 10 % of the first, 1 GB", ratio(f"{LARGE}, again", f"{LARGE}, first"), 0.1, why=WHY
    ),
    Goal(
        "again ≤ 10 % of `cp -r`, 1 GB, XFS",
        ratio(f"{CLONED}, again", f"{CLONED}, cp -r"),
        most=0.1,
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

    large = bench.of(1000, 10)
    yield from copied(bench, one_file(bench.folder, large), f"{LARGE}, ", None)
    if bench.quick:
        return
    with ExitStack() as stack:
        try:
            place = stack.enter_context(cloning(bench.folder / "xfs", megabytes=4 * large))
        except OSError as error:
            yield Figure(CLONED, "s", reason=str(error))
        else:
            yield from copied(bench, one_file(place, large), f"{CLONED}, ", None)


def one_file(folder: Path, megabytes: int) -> Path:
    """Make a source folder of one file."""
    source = folder / "large"
    source.mkdir()
    with (source / "data.bin").open("wb") as file:
        block = bytes(range(256)) * 4096
        for _ in range(megabytes):
            file.write(block)
    return source


def copied(bench: Bench, source: Path, prefix: str, size: int | None) -> Iterator[Figure]:
    """Measure the copies of a folder, beside it."""
    values: dict[str, list[float]] = {FIRST: [], AGAIN: [], PLAIN: []}
    top = source.parent / "runs"
    for number in range(bench.rounds(5)):
        runs = top / "e"
        runs.mkdir(parents=True)
        values[FIRST].append(snapshot(source, runs / f"first{number}"))
        values[AGAIN].append(snapshot(source, runs / f"again{number}"))
        values[PLAIN].append(timed("cp", "-r", "--reflink=never", source, runs / "plain"))
        shutil.rmtree(top)
    for case, seconds in values.items():
        base = f"{prefix}{FIRST}" if case == AGAIN else ""
        yield Figure(f"{prefix}{case}", "s", tuple(seconds), size, "files" if size else "", base)


def snapshot(source: Path, run: Path) -> float:
    """Return the seconds of a snapshot into a run folder."""
    run.mkdir()
    began = time.perf_counter()
    take_snapshot(source, run / "snapshot", max_mb=2000)
    return time.perf_counter() - began
