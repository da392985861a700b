"""What a sample of CPU and memory costs the wrapper: CPU seconds of its own, for several trainings.

python benchmarks/samples.py
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from hpctf.node.system import Sampler

SAMPLES = 50
EVERY_S = 10

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


def measure(children: int, gigabytes: float) -> tuple[float, dict[str, object]]:
    """Return the median CPU seconds of a sample, and the last one."""
    words = [sys.executable, "-S", "-c", TRAINING, str(children), str(gigabytes)]
    training = subprocess.Popen(words, stdout=subprocess.PIPE, start_new_session=True)
    assert training.stdout is not None
    training.stdout.readline()
    with tempfile.TemporaryDirectory() as folder:
        sampler = Sampler(f"{folder}/s.jsonl", training.pid, {}, EVERY_S, {}, alone=True)
        taken = []
        for _ in range(SAMPLES):
            began = time.thread_time()
            row = sampler._row()
            sampler._append({"name": "system", "row": row})
            taken.append(time.thread_time() - began)
    os.killpg(training.pid, 9)
    training.wait()
    return statistics.median(taken), row


def main() -> None:
    others = len([name for name in os.listdir("/proc") if name.isdigit()])
    print(f"{others} processes on this machine, {SAMPLES} samples each")
    for children, gigabytes in ((0, 0.4), (0, 2.0), (50, 0.03), (50, 2.0)):
        seconds, row = measure(children, gigabytes)
        share = 100 * seconds / EVERY_S
        print(
            f"{children + 1:3} processes, {gigabytes:4} GB ({row['memory_count']}): "
            f"{seconds * 1000:6.2f} ms a sample, {share:.3f} % of a core at one each {EVERY_S} s"
        )


if __name__ == "__main__":
    main()
