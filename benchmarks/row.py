"""Measures one row, in a process of its own: what it has imported and changed is gone afterwards.

    python -m benchmarks.row NAME FOLDER [--quick]

Writes its figures to FOLDER/figures.jsonl, one JSON object each.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.figures import Figure
from benchmarks.rows import load


def main(name: str, folder: Path, *words: str) -> None:
    """Measure a row."""
    scratch = folder / "scratch"
    scratch.mkdir()
    with (folder / "figures.jsonl").open("w") as file:
        for figure in load(name).measure(Bench(scratch, "--quick" in words)):
            print(json.dumps(asdict(figure)), file=file, flush=True)
            print(f"  {shown(figure)}", file=sys.stderr, flush=True)


def shown(figure: Figure) -> str:
    """Return a line about a figure."""
    size = f" ({figure.size:,})" if figure.size is not None else ""
    median = f"{figure.median:.4g} {figure.unit}" if figure.values else figure.reason
    return f"{figure.case}{size}: {median}"


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), *sys.argv[3:])
