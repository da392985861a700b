"""Following what a run logs: each look reads only what is new."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpctf.node.thinning import thin
from hpctf.tracking.live import Live, Progress


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "metrics" / "system").mkdir(parents=True)
    return tmp_path


def write(folder: Path, name: str, *records: object, end: str = "\n") -> None:
    with (folder / "metrics" / f"{name}.jsonl").open("a") as stream:
        stream.write("\n".join(json.dumps(record) for record in records) + end)


def loss(value: float, step: int) -> dict[str, object]:
    return {"name": "loss", "value": value, "step": step, "time": 100.0 + step}


def test_what_is_new_is_added_and_a_half_line_waits(folder: Path) -> None:
    live = Live(folder, ["worker-0"])
    live.look()
    write(folder, "worker-0", loss(3.0, 0))
    live.look()
    write(folder, "worker-0", loss(2.0, 1), end="")
    live.look()
    assert live.scalars()["loss"].values == [3.0]
    write(folder, "worker-0", end="\n")
    live.look()
    assert live.scalars()["loss"].values == [3.0, 2.0]


def test_a_window_that_is_not_filled_yet_is_read_as_far_as_it_is(folder: Path) -> None:
    path = folder / "metrics" / "worker-0.jsonl"
    line = json.dumps(loss(3.0, 0)).encode() + b"\n"
    path.write_bytes(line + b"\0" * 4096)
    live = Live(folder, ["worker-0"])
    live.look()
    path.write_bytes(line + line.replace(b"3.0", b"2.0") + b"\0" * 4000)
    live.look()
    assert live.scalars()["loss"].values == [3.0, 2.0]


def test_a_name_has_the_first_ranks_values_a_second_process_comes_behind(folder: Path) -> None:
    write(folder, "worker-1", {**loss(9.0, 0), "name": "other"}, loss(9.0, 0))
    write(folder, "worker-0", loss(1.0, 0))
    write(folder, "worker-0.2", {**loss(5.0, 0), "name": "test"}, loss(5.0, 0))
    live = Live(folder, ["worker-0", "worker-1"])
    live.look()
    assert {name: one.values for name, one in live.scalars().items()} == {
        "loss": [1.0],
        "test": [5.0],
        "other": [9.0],
    }


def test_progress_is_the_first_tellers_and_begins_anew_after_a_restart(folder: Path) -> None:
    def told(epoch: int, at: float) -> dict[str, object]:
        return {"progress": {"epoch": epoch, "epochs": 10}, "time": at}

    write(folder, "worker-0", told(1, 100.0), told(3, 120.0))
    write(folder, "worker-1", told(9, 120.0))
    live = Live(folder, ["worker-0", "worker-1"])
    live.look()
    assert live.progress == Progress(3, 10, 120.0, 1, 100.0)
    assert live.progress.left_s(now=125.0) == 65.0
    write(folder, "worker-0", told(2, 500.0))
    live.look()
    assert live.progress == Progress(2, 10, 500.0, 2, 500.0)
    assert live.progress.left_s(now=500.0) is None
    assert live.progress.left_s(now=500.0, began=480.0) == 80.0


def test_the_last_sample_is_of_processes_that_are_there(folder: Path) -> None:
    write(
        folder,
        "system/worker-0",
        {"opened": {"host": "n1", "every_s": 10}, "time": 100.0},
        {"name": "system", "row": {"cpu": 1.0, "memory": 5}, "time": 110.0},
        {"name": "system", "row": {"cpu": 0.2, "memory_peak": 7}, "time": 112.0},
    )
    live = Live(folder, ["worker-0"])
    live.look()
    last = live.samples["worker-0"].last
    assert last is not None
    assert (last.host, last.seconds, last.row["memory"]) == ("n1", 10.0, 5)


def test_samples_that_were_thinned_meanwhile_take_the_place_of_those_before(folder: Path) -> None:
    opened = {"opened": {"host": "n1", "every_s": 10}, "time": 0.0}
    rows = [{"name": "system", "row": {"cpu": n, "memory": n}, "time": 10.0 * n} for n in range(9)]
    write(folder, "system/worker-0", opened, *rows)
    live = Live(folder, ["worker-0"])
    live.look()
    thin(str(folder / "metrics/system/worker-0.jsonl"))
    write(folder, "system/worker-0", {"name": "system", "row": {"cpu": 9}, "time": 90.0})
    live.look()
    live.look()
    assert len(live.samples["worker-0"].all) == 10
