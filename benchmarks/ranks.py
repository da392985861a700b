"""Runs with more ranks than were trained, as a job would have left them."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

from hpctf.node import thinning
from hpctf.node.identity import Identity
from hpctf.node.process import Ended
from hpctf.node.rank import Rank
from hpctf.node.signals import Signals


def widen(run: Path, ranks: int, seconds: float, ended: bool) -> None:
    """Give a run more ranks, with the states and samples that they have after some time, by the
    same code as in a job."""
    plan = json.loads((run / "plan.json").read_text())
    plan["roles"][0]["count"] = ranks
    (run / "plan.json").write_text(json.dumps(plan))
    for index in range(ranks):
        me = Identity(index, 0, ranks, "worker", index, f"n{index // 8}")
        rank = Rank(plan, me, str(run), Signals.__new__(Signals))
        if index:
            rank._record_start(1000 + index)
        for _ in range(int(seconds / 30)):
            rank.beat()
        if ended and index:
            rank._record("ended", **Ended(0, None, None)._asdict(), oom=None, full=False)

    system = run / "metrics/system"
    system.mkdir(exist_ok=True)
    sample(system / "worker-0.jsonl", seconds)
    for index in range(1, ranks):
        shutil.copy(system / "worker-0.jsonl", system / f"worker-{index}.jsonl")
    final = run / "state/final.json"
    if final.exists():
        settled = {**json.loads(final.read_text()), "ranks": ranks}
        final.write_text(json.dumps(settled, indent=2) + "\n")


def sample(path: Path, seconds: float) -> None:
    """Write a sample each 10 s, thinned as a rank's wrapper does."""
    row = {
        "cpu": 3.921,
        "memory": 6_115_640_320,
        "memory_count": "cgroup",
        "memory_peak": 6_117_202_944,
        "processes": 13,
        "gpu0_use": 85,
        "gpu0_memory": 30_000_000_000,
        "gpu0_memory_total": 85_000_000_000,
    }
    begin = time.time() - seconds
    opened = {"attempt": 0, "host": "n0", "pid": 1, "every_s": 10}
    lines = [json.dumps({"opened": opened, "time": begin})]
    for number in range(int(seconds / 10)):
        at = begin + 10 * (number + 1)
        lines.append(json.dumps({"name": "system", "row": row, "time": at}))
        if len(lines) > thinning.MOST:
            path.write_text("\n".join(lines) + "\n")
            thinning.thin(str(path))
            lines = path.read_text().splitlines()
    path.write_text("\n".join(lines) + "\n")
