"""What a call of run.log costs

On this machine's disk, call by call; each round is a process of its own, a rank of a run, as hpctf
starts it. The clock's own time is taken off. The mean counts all calls, those too that open the
journal. Where calls come slowly each is a plain write after a sleep; a bare one is there to compare
with.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import Bench
from benchmarks.figures import Figure
from hpctf.common.paths import CLIENT

KINDS = {
    "log(name, value)": "run.log('loss', value)",
    "log(name, value, step)": "run.log('loss', value, number)",
    "log, 20 names in turn": "run.log(names[number % 20], value, number)",
    "log_row(name, two columns)": "run.log_row('speed', batch=number, images=value)",
    "log, 100 calls a second": "run.log('loss', value, number)",
    "log, 10,000 calls a second": "run.log('loss', value, number)",
    "a bare write, 100 a second": "os.write(bare, line)",
}
PACES = {"100": (500, "0.01"), "10,000": (20_000, "0.0001")}
"""Calls, and seconds between them, where so many come a second."""

TRAIN = """
import json, os, sys, time
from hpctf import Run

clock = time.perf_counter_ns
run = Run.get_context()
names = ["metric-%d" % n for n in range(20)]
calls, pause = int(sys.argv[1]), float(sys.argv[2])
line = b'{"name":"loss","value":0.3333333333333333,"step":1,"time":1795487019.136}\\n'
bare = os.open(run.outputs / "bare", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
took, empty = [], []


def rest(until):
    if pause > 0.001:
        time.sleep(pause)
    else:  # a sleep takes longer
        while clock() < until:
            pass


began = clock()
for number in range(calls):
    if pause:
        rest(began + pause * 1e9)
    began = clock()
    empty.append(clock() - began)
for number in range(calls):
    value = number / 3
    if pause:
        rest(began + pause * 1e9)
    began = clock()
    {call}
    took.append(clock() - began)
idle = sorted(empty)[len(empty) // 2]
took = sorted(max(0, one - idle) / 1000 for one in took)
print(json.dumps([took[len(took) // 2], took[int(len(took) * 0.99)], sum(took) / len(took)]))
"""


def measure(bench: Bench) -> Iterator[Figure]:
    rounds: dict[str, list[list[float]]] = {kind: [] for kind in bench.of(KINDS, [*KINDS][:1])}
    for _ in range(bench.rounds(5)):
        for kind, seen in rounds.items():
            paced = next((pace for words, pace in PACES.items() if f" {words} " in kind), None)
            calls, pause = paced or (bench.of(200_000, 5_000), "0")
            seen.append(one_round(bench.folder, sys.executable, KINDS[kind], str(calls), pause))
    for kind, seen in rounds.items():
        for name, column in zip(
            ("median", "99th percentile", "mean"), zip(*seen, strict=True), strict=True
        ):
            yield Figure(f"{kind}: {name}", "µs", tuple(column))


def one_round(folder: Path, python: str, call: str, calls: str, pause: str) -> list[float]:
    """Return median, 99th percentile and mean of a process's calls, in microseconds."""
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    for room in ("metrics", "outputs"):
        (run / room).mkdir(parents=True)
    env = {
        **os.environ,
        "PYTHONPATH": CLIENT,
        "HPCTF_RUN_ID": "r",
        "HPCTF_RUN_FOLDER": str(run),
        "HPCTF_OUTPUTS_DIR": str(run / "outputs"),
    }
    words = [python, "-c", TRAIN.replace("{call}", call), calls, pause]
    printed = subprocess.check_output(words, env=env, text=True)
    if call.startswith("run."):
        with (run / "metrics/worker-0.jsonl").open("rb") as journal:
            written = sum(line.startswith(b'{"name"') for line in journal)
        assert written == int(calls), (written, calls)
    found: list[float] = json.loads(printed)
    return found
