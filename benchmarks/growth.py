"""What grows: long runs, many ranks, points, files and runs, and what commands need for them.

    python benchmarks/growth.py FOLDER [--rounds N] [--quick]

A run of this machine is trained, and its folder then filled with what a long or large one leaves,
by the same code as in a job. Each command is a process of its own, told of with its seconds, start
included, and the memory that it held at most. --quick takes a tenth of everything.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from benchmarks.ranks import widen  # noqa: E402
from hpctf import Experiment, Run, TensorFlow  # noqa: E402
from hpctf.node.completion import Ends  # noqa: E402
from hpctf.node.rank import FOLLOW_S  # noqa: E402
from hpctf.runs.housekeeping.disk_usage import sizes_of  # noqa: E402

DAY_S = 86_400
HPCTF = """
import sys
from hpctf.cli import main
try:
    main()
finally:
    words = open("/proc/self/status").read().split()
    sys.stderr.write("\\npeak " + words[words.index("VmHWM:") + 1])
"""


def command(folder: Path, *words: str | Path) -> tuple[float, float]:
    """Run an hpctf command, and return its seconds and the most megabytes that it held."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), "HPCTF_RUNS_ROOT": str(folder / "runs")}
    began = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-c", HPCTF, *words],
        cwd=folder,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    took = time.perf_counter() - began
    assert done.returncode == 0, done.stderr
    return took, int(done.stderr.rpartition("peak ")[2]) * 1024 / 1e6


def trained(folder: Path, code: str = "", over: bool = True) -> Run:
    """Start a run, and wait for its end or until it trains."""
    source = folder / "proj"
    source.mkdir(parents=True, exist_ok=True)
    (source / "train.py").write_text(f"print('begun', flush=True)\n{code}\n")
    estimator = TensorFlow(source, entry_script="train.py")
    run = Experiment("grown", site="local", runs_root=folder / "runs").submit(estimator)
    if over:
        run.wait_for_completion()
    while not any(path.stat().st_size for path in run.folder.logs.glob("worker-0.log")):
        time.sleep(0.1)
    return run


def logged(run: Run, points: int) -> None:
    """Fill a journal with points of four names."""
    with (run.folder.metrics / "worker-0.jsonl").open("w") as journal:
        journal.write('{"opened":{"attempt":0,"host":"n0","pid":1},"time":1795487019.0}\n')
        for n in range(points // 4):
            for name in ("loss", "accuracy", "learning_rate", "batch/loss"):
                at = 1795487019 + n / 1000
                value = 1 / (n + 3)
                journal.write(f'{{"name":"{name}","value":{value},"step":{n},"time":{at:.3f}}}\n')


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="a tenth of everything, once")
    given = parser.parse_args()
    part = 10 if given.quick else 1
    rounds = 1 if given.quick else given.rounds
    folder = given.folder.absolute()
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)

    def tell(what: str, words: Callable[[], tuple[Any, ...]], times: int = rounds) -> None:
        seen = [command(folder, *words()) for _ in range(times)]
        took, held = (statistics.median(column) for column in zip(*seen, strict=True))
        print(f"{what:46} {took:7.2f} s {held:7.0f} MB", flush=True)

    going = trained(folder, "import time\ntime.sleep(3600)", over=False)
    try:
        widen(going.folder.path, 64, 7 * DAY_S / part, ended=False)
        tell("status, 7 days, 64 ranks, running", lambda: ("status", going.id))
    finally:
        widen(going.folder.path, 1, 0, ended=False)
        going.cancel()
    run = trained(folder)
    widen(run.folder.path, 16, 7 * DAY_S / part, ended=True)
    tell("status, 7 days, 16 ranks, completed", lambda: ("status", run.id))
    states_of_a_large_run(folder, part)
    follow(run, rounds)

    large = trained(folder)
    with (large.folder.metrics / "worker-0.jsonl").open("a") as journal:
        text = "x" * (32_000_000 // part)
        for name, value in (("loss", 0.5), ("long", text)):
            journal.write(json.dumps({"name": name, "value": value, "time": 1.0}) + "\n")
    (large.folder.state / "last.json").unlink(missing_ok=True)
    tell("runs --sort, a line of 32 MB", lambda: ("runs", "--sort", "loss"))
    large.folder.metrics.joinpath("worker-0.jsonl").write_text("")

    for n in range(2000 // part):
        (large.folder.outputs / f"part-{n}").write_text(str(n))
    to = iter(range(1000))
    tell("download, 2,000 files", lambda: ("download", large.id, "--to", f"to-{next(to)}"))
    line = "step 1234 loss 0.123456789 accuracy 0.987654321\n"
    with (large.folder.logs / "worker-0.log").open("w") as log:
        for _ in range(100):
            log.write(line * (276_000_000 // part // len(line) // 100))
    tell("logs, 276 MB", lambda: ("logs", large.id))
    large.delete()

    logged(run, 2_000_000 // part)
    tell("metrics, 2,000,000 points", lambda: ("metrics", run.id))
    tell("report, the same", lambda: ("report", run.id, "--force"))
    run.delete()

    small = trained(folder)
    for number in (100 // part, 800 // part):
        for n in range(number):
            shutil.copytree(
                small.folder.path, folder / f"runs/many{number}/r_{n}_aaaaaa", symlinks=True
            )
        words = ("archive", "--experiment", f"many{number}", "--yes")
        for n in range(number):
            change(folder / f"runs/many{number}/r_{n}_aaaaaa/state/final.json", f"many{number}")
        tell(f"archive, {number} runs", lambda words=words: words, 1)  # type: ignore[misc]
    shutil.rmtree(folder, ignore_errors=True)


def change(final: Path, experiment: str) -> None:
    """Say in a run's last state that it is of another experiment."""
    final.write_text(json.dumps({**json.loads(final.read_text()), "experiment": experiment}))


def states_of_a_large_run(folder: Path, part: int) -> None:
    """Tell what the states of 1,024 ranks take after 30 days."""
    large = trained(folder)
    widen(large.folder.path, 1024 // part, 0, ended=True)
    size = sizes_of(large.folder.state).total / 1e6
    print(f"{'state folder, 1,024 ranks, any time':46} {size:9.1f} MB on the disk", flush=True)
    large.delete()


def follow(run: Run, rounds: int) -> None:
    """Tell what it takes a rank that does not decide to look what the deciding ones do."""
    roles = [{"name": "worker", "count": 1}]
    seen = []
    for _ in range(max(3, rounds)):
        began = time.process_time()
        for _ in range(1000):
            Ends(str(run.folder.path), roles, 1).all()
        seen.append((time.process_time() - began) / 1000 / FOLLOW_S * 100)
    print(f"{'a ps rank that waits':46} {statistics.median(seen):9.3f} % of a core", flush=True)


if __name__ == "__main__":
    main()
