"""Measures one row, in a process of its own: what it has imported and changed is gone afterwards.

    python -m benchmarks.row NAME FOLDER [--quick] [--rounds N]

Writes its figures to FOLDER/figures.jsonl, one JSON object each.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.figures import Figure
from benchmarks.rows import load


def main() -> None:
    """Measure a row."""
    parser = argparse.ArgumentParser()
    parser.add_argument("name")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=1_000)
    given = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # rows end what they have started
    scratch = given.folder / "scratch"
    scratch.mkdir()
    os.chdir(scratch)
    bench = Bench(scratch, given.quick, given.rounds)
    with (given.folder / "figures.jsonl").open("w") as file:
        for figure in load(given.name).measure(bench):
            print(json.dumps(asdict(figure)), file=file, flush=True)
            print(f"  {shown(figure)}", file=sys.stderr, flush=True)


def shown(figure: Figure) -> str:
    """Return a line about a figure."""
    size = f" ({figure.size:,})" if figure.size is not None else ""
    median = f"{figure.median:.4g} {figure.unit}" if figure.values else figure.reason
    return f"{figure.case}{size}: {median}"


if __name__ == "__main__":
    main()
