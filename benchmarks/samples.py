"""A sample of what a rank uses

The wrapper's CPU time for one sample of its training's CPU and memory, written to the run folder;
it takes one each 10 s.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator

from benchmarks.bench import Bench
from benchmarks.figures import Figure
from hpctf.node.system import Sampler

EVERY_S = 10
CASES = ((0, 0.4), (0, 2.0), (50, 0.03), (50, 2.0))
"""Children of the training, and gigabytes that it holds."""

TRAINING = """
import os, sys, time
children, held = int(sys.argv[1]), bytearray(int(float(sys.argv[2]) * 2**30))
for page in range(0, len(held), 4096):
    held[page] = 1
for _ in range(children):
    if os.fork() == 0:
        time.sleep(600)
        os._exit(0)
print("ready", flush=True)
time.sleep(600)
"""


def measure(bench: Bench) -> Iterator[Figure]:
    for children, gigabytes in bench.of(CASES, CASES[:1]):
        taken, count = sampled(children, gigabytes, bench.of(50, 3))
        case = f"{children + 1} processes, {gigabytes} GB, counted as {count}"
        yield Figure(case, "ms", tuple(taken))


def sampled(children: int, gigabytes: float, samples: int) -> tuple[list[float], str]:
    """Return the wrapper's CPU milliseconds per sample, and how memory was counted."""
    words = [sys.executable, "-S", "-c", TRAINING, str(children), str(gigabytes)]
    training = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True)
    assert training.stdout is not None
    training.stdout.readline()
    with tempfile.TemporaryDirectory() as folder:
        sampler = Sampler(f"{folder}/s.jsonl", training.pid, {}, EVERY_S, {}, alone=True)
        taken = []
        for _ in range(samples):
            began = time.thread_time()
            row = sampler._row()
            sampler._append({"name": "system", "row": row})
            taken.append((time.thread_time() - began) * 1e3)
    os.killpg(training.pid, 9)
    training.wait()
    return taken, str(row["memory_count"])
