"""Scoring on this machine: each row once, in order, whatever is killed, and what is told of data
that do not fit."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import hpctf
from hpctf import Model
from hpctf.errors import UsageError
from hpctf.runs.status.query import look
from tests.scoring.conftest import RECORDED, Here
from tests.support.projects import hpctf as command
from tests.support.waiting import wait_until

pytestmark = pytest.mark.slow

ROWS = np.arange(30_000, dtype=np.float32).reshape(10_000, 3)
SCORES = np.stack([ROWS[:, 0], ROWS[:, 1] + ROWS[:, 2] + 0.5], axis=1)
"""What the model ``linear`` makes of `ROWS`."""


def ledger_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "ledger.jsonl").read_text().splitlines()]


def children_of(pid: int) -> list[int]:
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(child) for child in path.read_text().split()]


def test_each_row_is_scored_once_and_in_order_though_agent_and_worker_are_killed(
    here: Here,
) -> None:
    np.save(here.home / "a.npy", ROWS[:6000])
    np.save(here.home / "b.npy", ROWS[6000:])
    run = hpctf.score(
        "linear", str(here.home / "[ab].npy"), here.home / "out", per_node=3, rows_per_part=20
    )
    folder = run.folder.path

    def is_under_way() -> bool:
        ended = [one for one in ledger_of(folder) if one["event"] == "ended"]
        return len(ended) > 30 and len({one.get("agent") for one in ledger_of(folder)} - {None}) > 1

    wait_until(is_under_way)
    agents = {
        agent: next(
            json.loads(line)["pid"]
            for line in (folder / f"state/worker-{agent}.jsonl").read_text().splitlines()
        )
        for agent in {one["agent"] for one in ledger_of(folder) if one["event"] == "claimed"}
    }
    first, second, *_ = sorted(agents)
    (worker,) = children_of(agents[first])
    os.kill(worker, signal.SIGKILL)
    (orphan,) = children_of(agents[second])
    os.kill(orphan, signal.SIGSTOP)  # so that the agent dies within a part
    os.kill(agents[second], signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(orphan, signal.SIGKILL)

    assert run.wait_for_completion().state == "Completed"
    assert np.array_equal(np.load(here.home / "out/predictions.npy"), SCORES)
    records = ledger_of(folder)
    ends = Counter(one["task"] for one in records if one["event"] == "ended")
    assert ends == dict.fromkeys(range(501), 1), "500 parts and the joining"
    assert max(one["attempt"] for one in records if one["event"] == "claimed") >= 1
    about = json.loads((here.home / "out/rows.json").read_text())
    assert [(one["first"], one["rows"]) for one in about["files"]] == [(0, 6000), (6000, 4000)]
    assert not list((folder / "parts").glob("part-*"))


def test_a_part_with_bad_data_is_told_and_the_others_are_scored(here: Here) -> None:
    lines = [f"{n},{n},0" for n in range(60)]
    lines[37] = "37,oops,0"
    (here.home / "in.csv").write_text("\n".join(["a,b,c", *lines]) + "\n")
    words = ("score", "linear", "in.csv", "--out", "out", "--rows-per-part", "20")
    done = command(*words, "--format", "csv", cwd=here.home, env=here.env)
    assert done.returncode == 1
    why = f"{here.home}/in.csv, rows 20 to 39: row 37, column 'b': could not convert string 'oops'"
    assert why in done.stderr and "Traceback" not in done.stderr

    with open(here.home / "out/predictions.csv", newline="") as stream:
        head, *rows = csv.reader(stream)
    assert head == ["y_0", "y_1"] and len(rows) == 60
    assert rows[19:21] == [["19.0", "19.5"], ["", ""]] and rows[40] == ["40.0", "40.5"]
    (failed,) = json.loads((here.home / "out/rows.json").read_text())["failed"]
    assert (failed["first"], failed["rows"]) == (20, 20) and why in failed["reason"]
    told = command("status", done.stdout.strip(), cwd=here.home, env=here.env).stdout
    assert "Failed" in told
    assert f"hpctf score --resume {done.stdout.strip()}" in done.stderr
    refused = command("resubmit", done.stdout.strip(), cwd=here.home, env=here.env)
    assert refused.returncode == 2 and "hpctf score --resume" in refused.stderr


def test_parquet_comes_from_columns_and_goes_to_columns(here: Here, scoring_python: str) -> None:
    (here.home / "in.csv").write_text('price,count,name,more\n1.5,2,a,x\n2,3,"b ""b, b",y\n')
    words = ("score", "two", "in.csv", "--out", "first", "--format", "parquet")
    done = command(*words, cwd=here.home, env=here.env)
    assert done.returncode == 0, done.stderr
    code = (
        "import pyarrow.parquet as parquet, sys\n"
        "print(parquet.read_table('first/predictions.parquet').to_pydict())"
    )
    assert _run(scoring_python, code, here.home) == str(
        {"cost": [3.0, 6.0], "label": ["a", 'b "b, b']}
    )
    # what was written can be read again
    code = (
        "import pyarrow, pyarrow.parquet as parquet\n"
        "table = pyarrow.table({'x': [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]] * 50})\n"
        "parquet.write_table(table, 'in.parquet', row_group_size=30)"
    )
    _run(scoring_python, code, here.home)
    inputs = [here.home / "in.parquet"]
    run = hpctf.score("linear", inputs, here.home / "second", rows_per_part=35)
    run.wait_for_completion()
    scores = np.load(here.home / "second/predictions.npy")
    assert np.array_equal(scores, [[1, 5.5], [4, 11.5]] * 50)


def _run(python: str, code: str, cwd: Path) -> str:
    done = subprocess.run([python, "-c", code], cwd=cwd, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_names_of_any_kind_and_fewer_rows_than_processes(here: Here) -> None:
    """Inputs and outputs have blanks, line breaks and letters of other scripts; a file is empty."""
    Model.register(RECORDED / "names.onnx", "names")
    head = '"größe in cm",more,"two\nlines"\n'
    (here.home / "ä b.csv").write_text(f"{head}2,x,3\n4,y,5\n", encoding="utf-8")
    (here.home / "none.csv").write_text(head, encoding="utf-8")
    words = ("score", "names", "none.csv", "ä b.csv", "--out", "der Ausgang", "--per-node", "4")
    done = command(*words, "--rows-per-part", "1", "--time", "60", **here.place)
    assert done.returncode == 0, done.stderr
    assert "A time limit has no effect: the run is on this machine" in done.stderr
    out = here.home / "der Ausgang"
    assert np.load(out / "predictions-得分.npy").tolist() == [5, 9]
    assert np.load(out / "predictions-输出.npy").tolist() == [6, 20]
    files = json.loads((out / "rows.json").read_text())["files"]
    assert [(Path(one["file"]).name, one["rows"]) for one in files] == [
        ("none.csv", 0),
        ("ä b.csv", 2),
    ]
    refused = command("score", "names", "none.csv", "--out", "out", **here.place)
    assert refused.returncode == 2 and "The files have no rows" in refused.stderr


def test_what_does_not_fit_the_model_is_refused_before_anything_is_submitted(here: Here) -> None:
    np.save(here.home / "wide.npy", np.zeros((5, 4), np.float32))
    with pytest.raises(UsageError, match=r"wide.npy: its rows have the shape \(4\), but the model"):
        hpctf.score("linear", here.home / "wide.npy", here.home / "out")
    (here.home / "in.csv").write_text("price,name\n1,a\n")
    with pytest.raises(UsageError, match="no column 'count', which is an input of the model"):
        hpctf.score("two", here.home / "in.csv", here.home / "out")
    assert not (here.home / "out").exists()
    assert not list((here.home / "runs").glob("score/*"))
    with pytest.raises(UsageError, match="this machine, which is one node"):
        hpctf.score("linear", here.home / "wide.npy", here.home / "out", nodes=2)
    words = ("score", "linear", "wide.npy", "--out", "out", "--local", "--site", "slurm")
    assert "--local and --site contradict" in command(*words, cwd=here.home, env=here.env).stderr


def test_a_run_that_is_cancelled_writes_nothing(here: Here) -> None:
    np.save(here.home / "in.npy", ROWS)
    run = hpctf.score("linear", here.home / "in.npy", here.home / "out", rows_per_part=1)
    wait_until(lambda: any(one["event"] == "ended" for one in ledger_of(run.folder.path)))
    run.cancel()
    state = run.wait_for_completion(raise_on_error=False)
    assert state.state == "Canceled"
    assert look(run.folder).state == "Canceled"
    assert not (here.home / "out").exists()


def test_a_run_that_ended_early_is_gone_on_with_and_no_part_is_done_twice(here: Here) -> None:
    np.save(here.home / "in.npy", ROWS)
    words = ("score", "linear", "in.npy", "--out", "out", "--rows-per-part", "20", "--no-wait")
    first = command(*words, "--local", cwd=here.home, env=here.env).stdout.strip()
    folder = next((here.home / "runs").glob(f"*/{first}"))
    wait_until(lambda: sum(one["event"] == "ended" for one in ledger_of(folder)) > 20)
    assert "is not over yet" in command("score", "--resume", first, **here.place).stderr
    command("cancel", first, **here.place)
    command("wait", first, **here.place)
    assert f"hpctf score --resume {first}" in command("why", first, **here.place).stdout
    scored = {one["task"] for one in ledger_of(folder) if one["event"] == "ended"}
    assert 20 < len(scored) < 500

    done = command("score", "--resume", first, "--per-node", "2", **here.place)
    assert done.returncode == 0, done.stderr
    again = next((here.home / "runs").glob(f"*/{done.stdout.strip()}"))
    ends = [one["task"] for one in ledger_of(again) if one["event"] == "ended"]
    assert sorted(ends) == sorted({*range(501)} - scored), "the other parts, and the joining"
    assert np.array_equal(np.load(here.home / "out/predictions.npy"), SCORES)
    refused = command("score", "--resume", again.name, **here.place)
    assert refused.returncode == 2 and "has scored all its rows" in refused.stderr


def test_parts_that_have_failed_are_done_again_and_the_output_is_replaced(here: Here) -> None:
    """They fail for their data here, which then become right behind hpctf's back: as if there had
    been too little memory."""
    data = here.home / "in.csv"
    lines = [f"{n},{n},0" for n in range(60)]
    lines[37] = "37,oo,0"
    data.write_text("\n".join(["a,b,c", *lines]) + "\n")
    run = hpctf.score("linear", data, here.home / "out", rows_per_part=20)
    assert run.wait_for_completion(raise_on_error=False).state == "Failed"
    before = np.load(here.home / "out/predictions.npy")
    assert np.isnan(before[20:40]).all() and before[40].tolist() == [40, 40.5]

    was = data.stat()
    data.write_text(data.read_text().replace("oo", "37"))
    with pytest.raises(UsageError, match=r"in\.csv' has changed since its rows were counted"):
        hpctf.resume_scoring(run)
    os.utime(data, ns=(was.st_atime_ns, was.st_mtime_ns))
    again = hpctf.resume_scoring(run, tags={"of": "two"})
    assert again.wait_for_completion().state == "Completed"
    after = np.load(here.home / "out/predictions.npy")
    assert after[:, 0].tolist() == list(range(60))
    about = json.loads((here.home / "out/rows.json").read_text())
    assert (about["run"], about["failed"]) == (again.id, [])
    assert sorted(path.name for path in here.home.iterdir() if "out" in path.name) == ["out"]
