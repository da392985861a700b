"""Scoring on three nodes of a real Slurm, one of which is lost in the middle."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.conftest import Person
from tests.scoring.conftest import RECORDED
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slurm


def test_three_nodes_score_ten_thousand_rows_and_one_is_lost(
    person: Person, scoring_python: str
) -> None:
    rows = np.arange(30_000, dtype=np.float32).reshape(10_000, 3)
    np.save(person.home / "rows.npy", rows)
    shutil.copy(RECORDED / "linear.onnx", person.home / "linear.onnx")
    person.hpctf("models", "register", "linear", "linear.onnx")
    done = person.hpctf(
        *("score", "linear", "rows.npy", "--out", "scores", "--site", "slurm", "--time", "10"),
        *("--nodes", "3", "--rows-per-part", "10", "--python", scoring_python, "--no-wait"),
        *("--cpus-per-task", "9"),  # of a node's 16: each job is on another node
    )
    run = done.stdout.strip()
    folder = person.folder(run)

    def ledger() -> list[dict[str, Any]]:
        return [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]

    wait_until(lambda: len({one["agent"] for one in ledger() if one["event"] == "claimed"}) == 3)
    job = next(one["job_id"] for one in ledger() if one.get("agent") == 1)
    assert len({one["host"] for one in ledger() if one["event"] == "claimed"}) == 3
    person.cluster.run("scancel", "--signal=KILL", "--full", job, user=person.user)

    person.hpctf("wait", run)
    scores = np.load(person.home / "scores/predictions.npy")
    assert np.array_equal(scores[:, 0], rows[:, 0]) and len(scores) == 10_000
    ends = [one["task"] for one in ledger() if one["event"] == "ended"]
    assert sorted(ends) == list(range(1001)), "1,000 parts and the joining, each once"
    assert len(list(Path(folder).glob("snapshot"))) == 1
    assert person.status(run)["state"] == "Completed"
