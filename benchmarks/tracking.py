"""What logging costs a training: ``run.log`` on this machine's disk, call by call.

    python benchmarks/tracking.py FOLDER [--calls N] [--rounds N] [--python EXE]

EXE is the Python that trains (3.8 or later; this one by default). Each round is a process of its
own, a rank of a run under FOLDER, as hpctf starts it. The clock's own time is taken off. The mean
counts all calls, those too that open the journal or make room in it.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
from pathlib import Path

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


def main() -> None:
    """Print the microseconds of a call of each kind."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path, help="a folder on the file system to measure")
    parser.add_argument("--calls", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--python", default=sys.executable)
    given = parser.parse_args()
    print(f"{given.calls} calls, fewer at a pace; medians of {given.rounds}, microseconds")
    print(f"  {'':28} median  99th percentile  mean")
    rounds: dict[str, list[list[float]]] = {kind: [] for kind in KINDS}
    for _ in range(given.rounds):
        for kind, call in KINDS.items():
            paced = next((pace for words, pace in PACES.items() if f" {words} " in kind), None)
            calls, pause = paced or (given.calls, "0")
            words = [call, str(calls), pause]
            rounds[kind].append(one_round(given.folder.absolute(), given.python, *words))
    for kind, seen in rounds.items():
        middle, high, mean = (statistics.median(column) for column in zip(*seen, strict=True))
        print(f"  {kind:28} {middle:6.2f} {high:16.2f} {mean:5.2f}")


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


if __name__ == "__main__":
    main()
