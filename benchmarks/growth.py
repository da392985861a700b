"""Commands on what grows

Long runs, many points, large logs and many files: a run of this machine is trained, and its folder
then filled with what a long or large one leaves, by the same code as in a job. Each command is a
process of its own: its seconds, and the most memory that it held.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.figures import Figure, Goal, value
from benchmarks.ranks import widen
from hpctf import Experiment, Run, TensorFlow
from hpctf.node.completion import Ends
from hpctf.node.rank import FOLLOW_S
from hpctf.runs.housekeeping.disk_usage import sizes_of

QUICK = False
LONG, FOLLOWED = "`status`, 7 days, 64 ranks, running", "a ps rank that waits"
GOALS = (Goal("`status` of 64 ranks that train for 7 days ≤ 1 s", value(LONG), most=1.0),)
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
    env = {**os.environ, "HPCTF_RUNS_ROOT": str(folder / "runs")}
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


def measure(bench: Bench) -> Iterator[Figure]:
    folder = bench.folder

    def told(case: str, words: Callable[[], tuple[str | Path, ...]]) -> Iterator[Figure]:
        seen = [command(folder, *words()) for _ in range(bench.rounds(5))]
        for unit, values in zip(("s", "MB"), zip(*seen, strict=True), strict=True):
            yield Figure(case, unit, tuple(values))

    going = trained(folder, "import time\ntime.sleep(3600)", over=False)
    try:
        widen(going.folder.path, 64, 7 * DAY_S, ended=False)
        yield from told(LONG, lambda: ("status", going.id))
    finally:
        widen(going.folder.path, 1, 0, ended=False)
        going.cancel()
    run = trained(folder)
    widen(run.folder.path, 16, 7 * DAY_S, ended=True)
    yield from told("`status`, 7 days, 16 ranks, completed", lambda: ("status", run.id))
    yield Figure("state of 1,024 ranks, any time", "MB", (state_mb(folder),))
    yield Figure(FOLLOWED, "% of a core", followed(run, bench.rounds(5)))

    large = trained(folder)
    with (large.folder.metrics / "worker-0.jsonl").open("a") as journal:
        for name, logged_value in (("loss", 0.5), ("long", "x" * 32_000_000)):
            record = {"name": name, "value": logged_value, "time": 1.0}
            journal.write(json.dumps(record) + "\n")
    (large.folder.state / "last.json").unlink(missing_ok=True)
    yield from told("`runs --sort`, a line of 32 MB", lambda: ("runs", "--sort", "loss"))
    large.folder.metrics.joinpath("worker-0.jsonl").write_text("")
    for number in range(2000):
        (large.folder.outputs / f"part-{number}").write_text(str(number))
    to = iter(range(1000))
    download = ("download", large.id, "--to")
    yield from told("`download`, 2,000 files", lambda: (*download, f"to-{next(to)}"))
    line = "step 1234 loss 0.123456789 accuracy 0.987654321\n"
    with (large.folder.logs / "worker-0.log").open("w") as log:
        for _ in range(100):
            log.write(line * (276_000_000 // len(line) // 100))
    yield from told("`logs`, 276 MB", lambda: ("logs", large.id))
    large.delete()

    logged(run, 2_000_000)
    yield from told("`metrics`, 2,000,000 points", lambda: ("metrics", run.id))
    yield from told("`report`, 2,000,000 points", lambda: ("report", run.id, "--force"))
    run.delete()
    yield from archived(folder)


def archived(folder: Path) -> Iterator[Figure]:
    """Archive many runs, copies of one."""
    small = trained(folder)
    for count in (100, 800):
        experiment = f"many{count}"
        for number in range(count):
            copy = folder / f"runs/{experiment}/r_{number}_aaaaaa"
            shutil.copytree(small.folder.path, copy, symlinks=True)
            change(copy / "state/final.json", experiment)
        seconds, held = command(folder, "archive", "--experiment", experiment, "--yes")
        yield Figure(f"`archive`, {count} runs", "s", (seconds,))
        yield Figure(f"`archive`, {count} runs", "MB", (held,))


def change(final: Path, experiment: str) -> None:
    """Say in a run's last state that it is of another experiment."""
    final.write_text(json.dumps({**json.loads(final.read_text()), "experiment": experiment}))


def state_mb(folder: Path) -> float:
    """Return the megabytes that the states of 1,024 ranks take."""
    large = trained(folder)
    widen(large.folder.path, 1024, 0, ended=True)
    size = sizes_of(large.folder.state).total / 1e6
    large.delete()
    return size


def followed(run: Run, rounds: int) -> tuple[float, ...]:
    """Return what it takes a rank that does not decide to look what the deciding ones do."""
    roles = [{"name": "worker", "count": 1}]
    shares = []
    for _ in range(rounds):
        began = time.process_time()
        for _ in range(1000):
            Ends(str(run.folder.path), roles, 1).all()
        shares.append((time.process_time() - began) / 1000 / FOLLOW_S * 100)
    return tuple(shares)
