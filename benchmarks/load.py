"""What those who wait ask of Slurm

One user's waiting processes beside a job of 2 nodes that sleeps: calls that Slurm's controller has
answered (`sdiag`), and commands (squeue, sacct, scontrol) that they started, per minute. In the
last row the commands stand behind a bucket of 4 tokens per minute, which refuses the rest.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.bench import HPCTF, Bench, run
from benchmarks.figures import Figure, Goal, value
from benchmarks.peers import python_of
from benchmarks.queue import calls, wait_until_empty
from tests.support.buckets import BUCKET

NEEDS = ("slurm", "submitit")
MOST = 4
ANY = 10**9
WAITS, ALL = "10 `hpctf wait`", "10 `hpctf wait`, 5 `hpctf watch`"
WHY = "One `squeue` is 3 calls: hpctf counts commands, of which there are at most 4 per minute."
REFUSED = f"{ALL}, refused by a bucket of {MOST}"
SUBMITIT = "10 submitit `job.wait()`"
CALLS = ", calls of the controller"
GOALS = (
    Goal("≤ 4 commands per minute, 10 waits", value(f"{WAITS}, commands"), most=MOST),
    Goal("≤ 4 commands per minute, 10 waits, 5 watches", value(f"{ALL}, commands"), most=MOST),
    Goal("≤ 4 calls per minute, 10 waits", value(WAITS + CALLS), most=MOST, why=WHY),
    Goal("no command of these is refused by a bucket of 4 per minute", value(REFUSED), most=0),
)
SUBMITIT_WAIT = """
import sys, submitit
submitit.SlurmJob(sys.argv[1], sys.argv[2]).wait()
"""


def measure(bench: Bench) -> Iterator[Figure]:
    folder, minutes = bench.folder, bench.rounds(2)
    script = bench.script("sleep.py", "import time\ntime.sleep(1200)\n")
    variables = {"HPCTF_RUNS_ROOT": str(folder / "runs")}
    submit = ("submit", "--site", "slurm", "--backend", "mpi", "--nodes", "2")
    name = run(HPCTF, *submit, script, **variables).strip()
    job = run("squeue", "--me", "--noheader", "--format=%i").strip()
    waits = [[HPCTF, "wait", name]] * 10
    watches = [[HPCTF, "watch", name]] * 5
    theirs = [[str(python_of("submitit")), "-c", SUBMITIT_WAIT, str(folder), job]] * 10
    try:
        for case, commands in ((WAITS, waits), (ALL, waits + watches), (SUBMITIT, theirs)):
            asked, _, answered = followed(folder, commands, ANY, minutes, variables)
            yield Figure(f"{case}, commands", "per minute", (asked,))
            yield Figure(f"{case}{CALLS}", "per minute", (answered,))
        _, refused, _ = followed(folder, waits + watches, MOST, minutes, variables)
        yield Figure(REFUSED, "per minute", (refused,))
    finally:
        subprocess.run(["scancel", "--me"], check=True)
        wait_until_empty()


def followed(
    folder: Path, commands: list[list[str]], most: int, minutes: float, variables: dict[str, str]
) -> tuple[float, float, float]:
    """Let processes wait, and return commands asked, commands refused and calls, per minute."""
    log = folder / "asked.log"
    log.write_text("")
    programs = folder / "limited"
    programs.mkdir(exist_ok=True)
    for name in ("squeue", "sacct", "scontrol"):
        text = BUCKET.format(log=str(log), most=most, real=shutil.which(name))
        (programs / name).write_text(text)
        (programs / name).chmod(0o755)
    env = {**os.environ, **variables, "PATH": f"{programs}:{os.environ['PATH']}"}
    quiet = subprocess.DEVNULL
    before, began = calls(), time.monotonic()
    processes = [
        subprocess.Popen(words, env=env, cwd=folder, stdin=quiet, stdout=quiet, stderr=quiet)
        for words in commands
    ]
    try:
        time.sleep(60 * minutes)
        minutes = (time.monotonic() - began) / 60
        answered = calls() - before - 1  # this question
        assert all(process.poll() is None for process in processes), "a process has ended"
    finally:
        for process in processes:
            process.kill()
            process.wait()
    lines = [line.split()[1] for line in log.read_text().splitlines()]
    return len(lines) / minutes, lines.count("refused") / minutes, answered / minutes
