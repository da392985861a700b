"""64 nodes and 256 light ranks

One run of 4 ranks on each of 64 nodes, which share this machine: whether everything works, and what
it takes. The scripts sleep. A rank's memory is that of its wrapper, as its share of the pages that
it has together with others.
"""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import HPCTF, Bench, CannotMeasure, printed_by, run, timed
from benchmarks.figures import Figure, Goal, value
from benchmarks.queue import wait_until_empty

NEEDS = ("slurm",)
NODES = 64
PER_NODE = 4
RANKS = NODES * PER_NODE
MEMORY, STATUS = "a wrapper's memory", "`hpctf status`, 256 ranks running"
ANSWER, CANCEL = "from a rank's failure to the answer", "`hpctf cancel`, until the queue is empty"
START = "from the command to the last rank's first line"
GOALS = (
    Goal("wrapper of a light rank ≤ 40 MB", value(MEMORY), most=40),
    Goal("status of 256 running ranks ≤ 1 s", value(STATUS), most=1.0),
)
SCRIPT = """
import json, os, sys, time
with open("/proc/%d/smaps_rollup" % os.getppid()) as file:
    pss = [int(line.split()[1]) for line in file if line.startswith("Pss:")][0]
path = {folder!r} + "/begun-" + os.environ["SLURM_PROCID"]
with open(path + ".new", "w") as file:
    json.dump([time.time(), pss * 1024 / 1e6], file)
os.rename(path + ".new", path)
if sys.argv[1] == "fail" and os.environ["SLURM_PROCID"] == "200":
    while len([name for name in os.listdir({folder!r}) if name.startswith("begun-")]) < {ranks}:
        time.sleep(1)
    with open({folder!r} + "/failed", "w") as file:
        file.write(str(time.time()))
    sys.exit(3)
time.sleep(600)
"""


def measure(bench: Bench) -> Iterator[Figure]:
    folder = bench.folder
    script = bench.script("light.py", SCRIPT.format(folder=str(folder), ranks=RANKS))
    variables = {"HPCTF_RUNS_ROOT": str(folder / "runs")}
    words = [HPCTF, "submit", "--site", "slurm", "--backend", "mpi", "--nodes", str(NODES)]
    words += ["--procs-per-node", str(PER_NODE)]
    starts, memory, states, cancelled, answers = [], [], [], [], []
    for _ in range(bench.rounds(2)):
        began = time.time()
        name = run(*words, script, "--", "sleep", **variables).strip()
        begun = all_begun(folder, 300)
        starts.append(max(at for at, _ in begun) - began)
        memory.append(sum(megabytes for _, megabytes in begun) / RANKS)
        states.append(timed(HPCTF, "status", name, **variables))
        began = time.time()
        run(HPCTF, "cancel", name, **variables)
        wait_until_empty()
        cancelled.append(time.time() - began)
        forget(folder)

        code, text = printed_by([*words, "--wait", str(script), "--", "fail"], 400, **variables)
        returned = time.time()
        if code != 1 or "worker-200" not in text or "exit code 3" not in text:
            raise CannotMeasure(f"the wrong answer: exit code {code}: {text[-300:]}")
        answers.append(returned - float((folder / "failed").read_text()))
        wait_until_empty()
        forget(folder)
    yield Figure(START, "s", tuple(starts))
    yield Figure(MEMORY, "MB", tuple(memory))
    yield Figure(STATUS, "s", tuple(states))
    yield Figure(ANSWER, "s", tuple(answers))
    yield Figure(CANCEL, "s", tuple(cancelled))


def all_begun(folder: Path, within_s: float) -> list[tuple[float, float]]:
    """Wait until every rank has written its first line, and return those lines."""
    deadline = time.monotonic() + within_s
    while len(found := list(folder.glob("begun-*[0-9]"))) < RANKS:
        if time.monotonic() > deadline:
            subprocess.run(["scancel", "--me"], check=True)
            raise CannotMeasure(f"{len(found)} of {RANKS} ranks began within {within_s} s")
        time.sleep(0.2)
    return [tuple(json.loads(path.read_text())) for path in found]


def forget(folder: Path) -> None:
    """Remove what the ranks have written."""
    for path in [*folder.glob("begun-*"), *folder.glob("failed")]:
        path.unlink()
