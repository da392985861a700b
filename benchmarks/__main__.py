"""Measures all rows, and writes docs/performance.md: ``make bench``.

    python -m benchmarks [--only ROW ...] [--quick] [--rounds N] [--results FOLDER] [--page FILE]

A row that this machine has measured with the same code of hpctf is not measured again, so that what
was interrupted goes on; --only renews rows. Each result is kept in benchmarks/results, with its
machine and date. Rows that need Slurm are measured on the test cluster, as its ordinary user: as
root on Debian.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from compileall import compile_dir
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks import machine, page, peers, rows
from benchmarks.bench import ROOT
from benchmarks.figures import Result, figures_of, from_json
from tests.cluster import fixture as cluster
from tests.support.forking import as_user

RESULTS = ROOT / "benchmarks/results"
PAGE = ROOT / "docs/performance.md"
QUICK = ROOT / "build/performance"


@dataclass(frozen=True)
class Runner:
    """Measures rows and keeps their results."""

    results: Path
    quick: bool
    rounds: int

    def kept(self, name: str) -> Result | None:
        """Return what a row has measured, or None."""
        path = self.results / f"{name}.json"
        return from_json(json.loads(path.read_text())) if path.exists() else None

    def measure(self, name: str) -> bool:
        """Measure a row and keep its figures; return whether it worked."""
        print(f"{name}:", file=sys.stderr, flush=True)
        row = rows.load(name)
        needs = () if self.quick else rows.needs(row)
        if rows.SLURM in needs and (missing := cluster.available()):
            print(f"  {missing}", file=sys.stderr)
            return False
        variables = peers.build(need for need in needs if need != rows.SLURM)
        with place(rows.SLURM in needs, rows.nodes(row)) as (folder, prefix):
            words = [*prefix, sys.executable, "-m", "benchmarks.row", name, str(folder)]
            words += ["--rounds", str(self.rounds)]
            done = subprocess.run(
                [*words, *(["--quick"] if self.quick else [])],
                cwd=ROOT,
                env={**environment(bool(prefix)), **variables},
            )
            lines = (folder / "figures.jsonl").read_text().splitlines()
        if done.returncode:
            print(f"  failed with exit code {done.returncode}", file=sys.stderr)
            return False
        figures = figures_of([json.loads(line) for line in lines])
        date = time.strftime("%Y-%m-%d")
        result = Result(name, date, machine.code(), machine.describe(), figures)
        self.results.mkdir(parents=True, exist_ok=True)
        text = json.dumps(result.as_json(), indent=1)
        (self.results / f"{name}.json").write_text(f"{text}\n")
        return True


@contextmanager
def place(on_cluster: bool, nodes: int) -> Iterator[tuple[Path, list[str]]]:
    """Yield a folder for a row, and the words that change to the user who measures it."""
    if not on_cluster:
        with tempfile.TemporaryDirectory(prefix="hpctf-bench-", dir="/var/tmp") as name:
            yield Path(name), []
        return
    stood = cluster.is_up()
    with cluster.use(alone=True):
        shared = cluster.up(nodes).shared
        folder = Path(tempfile.mkdtemp(prefix="bench-", dir=shared))
        shutil.chown(folder, cluster.TEST_USER)
        try:
            yield folder, as_user(cluster.TEST_USER)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
            if not stood:
                cluster.down()


def environment(on_cluster: bool) -> dict[str, str]:
    """Return the variables of a row's process: nothing of the caller's sites and runs."""
    variables = cluster.standing().environment(cluster.TEST_USER) if on_cluster else os.environ
    left_out = ("HPCTF_", "PYTHONDONTWRITEBYTECODE")
    return {name: text for name, text in variables.items() if not name.startswith(left_out)}


def main() -> None:
    """Measure, and write the page."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__.split("\n")[0]
    )
    parser.add_argument("--only", action="append", choices=rows.ROWS, metavar="ROW")
    parser.add_argument(
        "--quick", action="store_true", help="small sizes, without Slurm, TensorFlow and peers"
    )
    parser.add_argument("--rounds", type=int, default=1_000, help="at most so many rounds")
    parser.add_argument("--list", action="store_true", help="print the rows' names")
    parser.add_argument("--page-only", action="store_true", help="write the page of what is kept")
    parser.add_argument("--results", type=Path, help="where results are kept")
    parser.add_argument("--page", type=Path, help="the page to write")
    given = parser.parse_args()
    if given.list:
        print("\n".join(rows.ROWS))
        return

    default = QUICK / "results" if given.quick else RESULTS
    runner = Runner(given.results or default, given.quick, given.rounds)
    failed = []
    if not given.page_only:
        # The cluster's user cannot keep what it compiles.
        compile_dir(ROOT / "hpctf", quiet=1)
        for name in wanted(runner, given.only):
            try:
                if not runner.measure(name):
                    failed.append(name)
            except RuntimeError as error:  # the cluster does not come up
                print(f"  {error}", file=sys.stderr)
                failed.append(name)
    results = {name: result for name in rows.ROWS if (result := runner.kept(name))}
    if results and not runner.quick:
        os.environ.update(peers.build(["matplotlib"]))
    page.write(given.page or (QUICK / "performance.md" if given.quick else PAGE), results)
    if failed:
        sys.exit(f"Some rows could not be measured: {', '.join(failed)}")


def wanted(runner: Runner, only: list[str] | None) -> Iterator[str]:
    """Yield the rows to measure."""
    here, code = machine.describe(), machine.code()
    for name in only or rows.ROWS:
        if runner.quick and not rows.in_quick(rows.load(name)):
            continue
        kept = runner.kept(name)
        if only or kept is None or (kept.machine, kept.hpctf) != (here, code):
            yield name


if __name__ == "__main__":
    main()
