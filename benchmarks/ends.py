"""From an end to the answer

From the last rank's last line to the return of the command that waits: `hpctf submit --wait`, and
what other launchers have for it. Then the same for a rank that ends with exit code 3 while the
other one sleeps for two minutes: from the failing rank's last line to the command's end, by the
words that tell of it. A command that has not ended after 30 s counts as one that hangs.
"""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from benchmarks.bench import Bench, CannotMeasure, printed_by
from benchmarks.figures import Figure, Goal, value
from benchmarks.launchers import NEEDS, OURS, Command, Launch

__all__ = ["NEEDS"]
FAILS = ", a rank fails"
HANGS_S = 30
GOALS = (
    Goal("`wait` returns ≤ 1 s after the script's end", value(OURS), most=1.0),
    Goal("the right answer ≤ 1 s after a rank's failure", value(OURS + FAILS), most=1.0),
)
SCRIPT = """
import os, sys, time
time.sleep(3)
rank = int(os.environ["SLURM_PROCID"])
if {fails} and rank == 0:
    time.sleep(120)
with open({folder!r} + "/ended-" + os.environ["SLURM_JOB_ID"] + "-" + str(rank), "w") as file:
    file.write(str(time.time()))
if {fails}:
    sys.exit(3)
"""


def measure(bench: Bench) -> Iterator[Figure]:
    for fails in (False, True):
        text = SCRIPT.format(folder=str(bench.folder), fails=fails)
        script = bench.script("fails.py" if fails else "ends.py", text)
        launch = Launch(bench.folder, script, wait=True)
        cases = {}
        for name, command in launch.commands().items():
            cases[name + FAILS * fails] = partial(ended, bench.folder, command, fails)
        yield from bench.in_turn(cases, rounds=3, warm_up=not fails)


def ended(folder: Path, command: Callable[[], Command], fails: bool) -> float:
    """Return the seconds from a rank's end to the command's."""
    for old in folder.glob("ended-*"):
        old.unlink()
    words = [str(word) for word in command()]
    variables = {"HPCTF_RUNS_ROOT": str(folder / "runs")}
    try:
        code, text = printed_by(words, 3 + HANGS_S, **variables)
    except subprocess.TimeoutExpired:
        raise CannotMeasure(f"still waits {HANGS_S} s later") from None
    finally:
        returned = time.time()
        subprocess.run(["scancel", "--me"], check=True)
    times = [float(path.read_text()) for path in folder.glob("ended-*")]
    if not times:
        raise CannotMeasure(f"nothing ran: {text.strip().splitlines()[-1][:200]}")
    if fails and not tells(text, code):
        raise CannotMeasure(f"returned after {returned - max(times):.1f} s, with exit code {code}")
    if not fails and code:
        raise CannotMeasure(f"exit code {code}: {text.strip().splitlines()[-1][:200]}")
    return returned - max(times)


def tells(text: str, code: int) -> bool:
    """Return whether an answer says that a rank failed and how."""
    return (
        code != 0 and re.search(r"exit code[: ]+3|exited with (code )?3|status 3", text) is not None
    )
