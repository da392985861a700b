"""What `hpctf watch` paints, for screens of any size, and its curves."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hpctf.cli.curves import Curve, legend, plot
from hpctf.cli.terminal import rendered
from hpctf.cli.watch_view import View, log_lines, paint, used_now
from hpctf.client.hpctf.series import Series
from hpctf.run_folder.rank_states import RankState
from hpctf.runs.status.state import RunState
from hpctf.tracking.live import Progress
from hpctf.tracking.samples import Sample

GB = 1 << 30


def series_of(name: str, values: list[float]) -> Series:
    series = Series(name, "value")
    for step, value in enumerate(values):
        series.add(value, step, 1000.0 + step, 0)
    return series


def view(ranks: int = 2, metrics: int = 3, log: int = 50, **more: Any) -> View:
    names = ["rate", "val_loss", "loss", *(f"metric-{n}" for n in range(metrics))][:metrics]
    states = tuple(
        RankState("worker", index, "Running", host=f"node{index}", started=900.0)
        for index in range(ranks)
    )
    row = {"cpu": 1.5, "memory": 3 * GB, "gpu0_use": 80, "gpu0_memory": GB}
    row |= {"gpu1_use": 40, "gpu1_memory": GB, "gpu0_memory_total": GB, "gpu1_memory_total": 2 * GB}
    found = View(
        id="digits_1_a",
        about="job 7  slurm/gpu  collective",
        status=RunState("Running", "", None, states),
        submitted=800.0,
        now=1000.0,
        progress=Progress(3, 12, 990.0, 1, 970.0),
        series={name: series_of(name, [1.0, 0.5, 0.25]) for name in names},
        samples={f"worker-{index}": Sample(990.0, 10.0, "n", row) for index in range(ranks)},
        log_name="worker-0.log",
        log=[f"line {number} 文字" for number in range(log)],
    )
    return found._replace(**more)


@pytest.mark.parametrize(("no_color", "colored"), [("", True), ("1", False)])
def test_the_screen_has_colors_unless_there_is_no_color(
    monkeypatch: pytest.MonkeyPatch, no_color: str, colored: bool
) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", no_color)

    screen = "".join(rendered(paint(view(), 100, 30), 100))

    assert bool(re.search(r"\x1b\[(?:\d*;)*[349]\d[;m]", screen)) == colored


def text_of(seen: View, width: int = 100, height: int = 30) -> str:
    return "\n".join(line.plain for line in paint(seen, width, height))


@settings(max_examples=150, deadline=None)
@given(
    width=st.integers(9, 250),
    height=st.integers(2, 80),
    ranks=st.sampled_from([1, 2, 5, 64, 300]),
    metrics=st.integers(0, 9),
    log=st.integers(0, 90),
)
def test_any_screen_is_filled_and_never_overrun(
    width: int, height: int, ranks: int, metrics: int, log: int
) -> None:
    lines = paint(view(ranks, metrics, log), width, height)
    assert len(lines) == height
    assert max(line.cell_len for line in lines) <= width
    assert lines[0].plain.startswith("digits_1")
    assert lines[-1].plain.startswith("q or")


def test_a_rank_has_its_cores_memory_and_gpus() -> None:
    assert "worker-1  node1  Running  1:40  1.5 cores    3 GB  60 %   2 GB/3 GB" in text_of(view())


def test_ranks_that_there_is_no_room_for_are_counted() -> None:
    seen = text_of(view(ranks=300), height=24)
    shown = seen.count("node")
    assert f"and {300 - shown} more: {300 - shown} Running" in seen
    assert 3 <= shown <= 10


def test_what_failed_is_told_with_its_exit_code() -> None:
    failed = RankState("ps", 0, "Failed", host="n1", started=900.0, ended=950.0, exit_code=7)
    status = RunState("Failed", "ps-0 on n1 failed", 7, (failed,))
    seen = text_of(view(status=status))
    assert "Failed (7)" in seen and "ps-0 on n1 failed" in seen


def test_loss_comes_first_and_with_what_was_validated() -> None:
    title = next(line for line in text_of(view()).splitlines() if "val_loss" in line)
    assert title.split() == ["loss", "0.25", "val_loss", "0.25", "rate", "0.25"]


def test_the_time_left_follows_from_the_epochs_so_far() -> None:
    assert "epoch 3 of 12 ━" in text_of(view())
    assert "about 1:20 left" in text_of(view())  # 9 epochs of 10 s, 10 s ago


def test_all_ranks_together_use() -> None:
    assert used_now(view()) == "3.0 cores, 6 GB, GPUs 60 %"


def test_a_log_is_shown_as_a_terminal_would() -> None:
    text = "\x1b[1m1/9\x1b[0m\r2/9 done\r\nnext\x07\ttab\n\n"
    assert log_lines(text) == ["2/9 done", "next    tab"]


def dots(lines: list[Any]) -> list[tuple[int, int]]:
    """Return (row, column) of the characters that have dots."""
    plain = [line.plain for line in lines]
    return [
        (row, column)
        for row, line in enumerate(plain)
        for column, char in enumerate(line)
        if 0x2800 < ord(char) < 0x2900
    ]


def test_a_falling_curve_goes_from_the_upper_left_to_the_lower_right() -> None:
    curve = Curve("loss", [0, 1, 2], [4.0, 2.0, 0.0])
    lines = [*legend([curve]), *plot([curve], 40, 9)]
    found = sorted(dots(lines), key=lambda place: place[1])
    assert (found[0][0], found[-1][0]) == (1, 8)
    assert (found[0][1], found[-1][1]) == (9, 39)
    assert [row for row, _ in found] == sorted(row for row, _ in found)
    assert lines[0].plain.strip() == "loss 0"
    assert lines[1].plain.startswith("       4│") and lines[8].plain.startswith("       0│")
    assert lines[5].plain.startswith("   1.714│")
    assert lines[9].plain.split() == ["└0", "2"]


def test_a_logarithmic_scale_makes_a_line_of_powers_and_leaves_out_what_has_none() -> None:
    lines = plot([Curve("loss", [0, 1, 2, 3], [100.0, 10.0, 1.0, -1])], 80, 9, log_scale=True)
    found = sorted(dots(lines), key=lambda place: place[1])
    assert lines[0].plain.startswith("     100│") and lines[7].plain.startswith("       1│")
    assert lines[8].plain.split() == ["└0", "1", "2"]
    middle = next(row for row, column in found if column == 9 + 35)
    assert middle in (3, 4)


@pytest.mark.parametrize("values", [[1.0], [2.0, 2.0], [math.nan, 1.0, math.inf, 3.0], [math.nan]])
def test_odd_values_are_no_obstacle(values: list[float]) -> None:
    lines = plot([Curve("x", range(len(values)), values)], 30, 8)
    assert len(lines) == 8
    assert bool(dots(lines)) == any(map(math.isfinite, values))
