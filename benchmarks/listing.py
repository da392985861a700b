"""What a listing costs: ``hpctf runs`` over thousands of settled runs, with few ranks and many.

    python benchmarks/listing.py FOLDER [--runs N] [--ranks N ...] [--rounds N]

One run is trained on this machine; the others are copies of its folder, with a state file for each
rank. Cold means that the kernel's caches were dropped (as root only).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path

CACHES = Path("/proc/sys/vm/drop_caches")
FIRST_MS = 1_700_000_000_000


def main() -> None:
    """Print the seconds of a listing, cold and warm, for each number of ranks."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a folder on the file system to measure")
    parser.add_argument("--runs", type=int, default=5000)
    parser.add_argument("--ranks", type=int, nargs="+", default=[1, 64])
    parser.add_argument("--rounds", type=int, default=7)
    given = parser.parse_args()
    folder = given.folder.absolute()
    os.environ["HPCTF_SITE"] = "local"
    print(f"hpctf runs --limit 0, {given.runs} settled runs, medians of {given.rounds}, seconds")
    for ranks in given.ranks:
        root = folder / f"{given.runs}x{ranks}"
        os.environ["HPCTF_RUNS_ROOT"] = str(root)
        if not root.exists():
            copies(first(folder, root), given.runs, ranks)
        for words in ([], ["--json"]):
            warm = [look(given.runs, *words) for _ in range(given.rounds + 1)][1:]
            cold = [look(given.runs, *words) for _ in range(given.rounds) if forget()]
            shown = f"{statistics.median(cold):.3f}" if cold else "not measured: not root"
            print(f"  {ranks} ranks {' '.join(words):7} warm {statistics.median(warm):.3f}"
                  f"  cold {shown}", flush=True)  # fmt: skip


def first(folder: Path, root: Path) -> Path:
    """Train a run and let its state be settled; return its folder."""
    (folder / "proj").mkdir(parents=True, exist_ok=True)
    (folder / "proj/train.py").write_text("print(1)\n")
    hpctf("submit", "--experiment", "many", "--wait", str(folder / "proj/train.py"))
    return next((root / "many").iterdir())


def copies(source: Path, count: int, ranks: int) -> None:
    """Give the run its ranks' state files, and make copies of it in its stead."""
    plan = json.loads((source / "plan.json").read_text())
    plan["roles"][0]["count"] = ranks
    (source / "plan.json").write_text(json.dumps(plan))
    for index in range(1, ranks):
        shutil.copy(source / "state/worker-0.jsonl", source / f"state/worker-{index}.jsonl")
    final = source / "state/final.json"
    settled = {**json.loads(final.read_text()), "ranks": ranks}
    final.write_text(json.dumps(settled, indent=2) + "\n")
    for number in range(count):
        name = f"many_{FIRST_MS + number}_{number:06x}"
        shutil.copytree(source, source.with_name(name), symlinks=True)
    shutil.rmtree(source)


def forget() -> bool:
    """Drop the kernel's caches; say whether that could be done."""
    if os.geteuid() != 0:
        return False
    os.sync()
    CACHES.write_text("3\n")
    return True


def look(count: int, *words: str) -> float:
    """Return the seconds that one listing takes, as a process."""
    began = time.perf_counter()
    answer = hpctf("runs", "--limit", "0", *words)
    seconds = time.perf_counter() - began
    listed = len(json.loads(answer)) if words else len(answer.splitlines()) - 1
    assert listed == count, (listed, count)
    return seconds


def hpctf(*words: str) -> str:
    """Run hpctf and return what it prints."""
    command = [sys.executable, "-m", "hpctf", *words]
    return subprocess.check_output(command, text=True)


if __name__ == "__main__":
    main()
