"""A Horovod run on 2 nodes

From the command to the first step that both ranks have taken together, importing TensorFlow
included; then rank 1 crashes with exit code 3 while rank 0 waits for it: from the crash to the end
of the command that waits, if it tells of the failing rank's exit code. By hand that is `sbatch
--wait` on a script with `srun`. A command that has not ended 30 s after the crash counts as one
that hangs.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from benchmarks import launchers
from benchmarks.bench import Bench, CannotMeasure
from benchmarks.figures import Figure, Goal, ratio, value
from benchmarks.launchers import BY_HAND, OURS, Command, Launch
from benchmarks.peers import TRAINING, python_of
from benchmarks.queue import wait_until_empty

NEEDS = (*launchers.NEEDS, TRAINING)
STEP, CRASH = ": to the first step", ": from the crash to the right sentence"
HANGS_S = 30
START_S = 240
GOALS = (
    Goal("first step ≤ 1.1 × by hand", ratio(OURS + STEP, BY_HAND + STEP), most=1.1),
    Goal("the right sentence ≤ 2 s after the crash", value(OURS + CRASH), most=2.0),
)
SCRIPT = """
import json, os, time
import horovod.tensorflow as hvd
import tensorflow as tf

def note(what):
    path = {folder!r} + "/noted-%s-%d" % (what, hvd.rank())
    with open(path + ".new", "w") as file:
        json.dump([time.time(), hvd.size()], file)
    os.rename(path + ".new", path)

hvd.init()
weights = tf.Variable(tf.ones([64, 64]))
weights.assign(hvd.allreduce(weights, name="step0"))
note("step")
time.sleep(2)
if hvd.rank() == 1:
    note("crash")
    os._exit(3)
hvd.allreduce(weights, name="step1")
time.sleep(600)
"""


def measure(bench: Bench) -> Iterator[Figure]:
    script = bench.script("step.py", SCRIPT.format(folder=str(bench.folder)))
    python = python_of(TRAINING)
    launches = Launch(bench.folder, script, python, wait=True).commands()
    steps: dict[str, list[float]] = {name: [] for name in launches}
    crashes: dict[str, list[float]] = {name: [] for name in launches}
    reasons: dict[str, str] = {}
    for turn in range(bench.rounds(2) + 1):
        for name, command in launches.items():
            try:
                step, crash = launched(bench.folder, command)
            except CannotMeasure as error:
                reasons[name + STEP] = reasons[name + CRASH] = str(error)
                continue
            if turn:
                steps[name].append(step)
            if isinstance(crash, str):
                reasons[name + CRASH] = crash
            elif turn:
                crashes[name].append(crash)

    for suffix, measured, base in ((STEP, steps, BY_HAND + STEP), (CRASH, crashes, "")):
        for name, values in measured.items():
            case = name + suffix
            reason = reasons.get(case, "")
            held_against = base if case != base else ""
            shown = () if reason else tuple(values)
            yield Figure(case, "s", shown, base=held_against, reason=reason)


def launched(folder: Path, command: Callable[[], Command]) -> tuple[float, float | str]:
    """Return the seconds to the first step, and those from the crash to the answer, or what came
    in its place."""
    for old in folder.glob("noted-*"):
        old.unlink()
    words = [str(word) for word in command()]
    output = folder / "printed"
    began = time.time()
    with output.open("w") as printed:
        process = subprocess.Popen(
            words,
            env={**os.environ, "HPCTF_RUNS_ROOT": str(folder / "runs")},
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
        )
        returned = ended(process, folder / "noted-crash-1", began)
    subprocess.run(["scancel", "--me"], check=True)
    text, code = output.read_text(), process.returncode
    wait_until_empty()

    noted = {path.name: json.loads(path.read_text()) for path in folder.glob("noted-*")}
    sizes = {size for _, size in noted.values()}
    last = (text.strip().splitlines() or ["no output"])[-1][:200]
    if sizes != {2}:
        alone = "each rank trains alone: Horovod finds no other" if sizes else f"no step: {last}"
        raise CannotMeasure(alone)
    step = max(noted[f"noted-step-{rank}"][0] for rank in (0, 1)) - began
    crash = noted["noted-crash-1"][0]
    if returned is None:
        return step, f"hangs: still waits {HANGS_S} s later"
    if code == 0 or not re.search(r"\b3\b", text):
        return step, f"returns after {returned - crash:.1f} s with exit code {code}, without it"
    return step, returned - crash


def ended(process: subprocess.Popen[bytes], crashed: Path, began: float) -> float | None:
    """Wait for a command, and return when it ended, or None if it hangs."""
    while process.poll() is None:
        since = crashed.stat().st_mtime if crashed.exists() else None
        if time.time() > (since + HANGS_S if since else began + START_S):
            process.kill()
            process.wait()
            return None
        time.sleep(0.02)
    return time.time()
