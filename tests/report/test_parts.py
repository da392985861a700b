"""What reports are made of: thinned curves, bars of ranks, and nothing that is secret."""

from __future__ import annotations

import json
import math
import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from hpctf import Run, TensorFlow
from hpctf.client.hpctf.series import Series
from hpctf.common.secrets import HIDDEN, hide, is_secret, labels, secrets_of, without_secrets
from hpctf.plan import Component, Role
from hpctf.report.timeline import WIDTH, timeline_of
from hpctf.runs.provenance import parameters_of
from hpctf.tracking.curves import BUDGET, MOST_POINTS, line_of, make_line, points_each, thinned
from tests.test_plan import PS_PLAN

NUMBERS = some.floats(allow_nan=True, allow_infinity=True)


@settings(deadline=None)
@given(some.lists(NUMBERS, min_size=1, max_size=400), some.integers(min_value=8, max_value=200))
def test_a_thinned_line_keeps_its_ends_and_extremes(values: list[float], most: int) -> None:
    kept = thinned(values, most)
    assert kept == sorted(set(kept)) and len(kept) <= most
    assert {0, len(values) - 1} <= set(kept)
    finite = [value for value in values if math.isfinite(value)]
    left = [values[n] for n in kept if math.isfinite(values[n])]
    assert (min(left, default=0), max(left, default=0)) == (
        min(finite, default=0),
        max(finite, default=0),
    )
    broken = len(finite) < len(values)
    assert any(not math.isfinite(values[n]) for n in kept) == broken


def test_one_gap_among_thousands_of_points_stays() -> None:
    values = [1.0] * 50_000
    values[31_234] = math.nan
    line = make_line("worker-0", list(range(50_000)), values, values, 300)
    (place, what), *others = line.marks
    assert (line.x[place], what, line.y[place], others) == (31_234, "nan", None, [])
    assert line.total == 50_000 and len(line.x) <= 300


def test_a_line_is_in_the_order_of_its_steps() -> None:
    line = make_line("worker-0", [3.0, 1.0, 2.0], [0.3, 0.1, 0.2], [30, 10, 20])
    assert (line.x, line.times, line.y) == ([1, 2, 3], [0.1, 0.2, 0.3], [10, 20, 30])


def test_numbers_beyond_floats_are_infinite() -> None:
    line = make_line("worker-0", [0, 1], [0, 1], [10**400, -(10**400)])
    assert line.marks == [(0, "inf"), (1, "-inf")] and line.last is None


def test_many_lines_share_the_page() -> None:
    assert points_each(1) == MOST_POINTS
    assert points_each(1000) * 1000 <= BUDGET


@pytest.mark.parametrize(
    "name",
    [
        "DB_PASSWORD",
        "API_KEY",
        "--api-key",
        "WANDB_API_KEY",
        "GITHUB_TOKEN",
        "aws_secret",
        "KEY",
        "--apikey",
    ],
)
def test_names_of_secrets(name: str) -> None:
    assert is_secret(name)


@pytest.mark.parametrize(
    "name", ["KEYBOARD", "MONKEY", "--learning-rate", "PATH", "AUTHOR", "--tokenizer", "MAX_TOKENS"]
)
def test_names_that_are_no_secrets(name: str) -> None:
    assert not is_secret(name)


def test_secrets_are_hidden_wherever_they_stand() -> None:
    command = ["hpctf", "submit", "--env", "API_KEY=sesame", "--", "--password", "hunter22"]
    secrets = secrets_of({"X_TOKEN": "abcdef", "COLOUR": "blue"}, [command])
    assert secrets == {"sesame", "hunter22", "abcdef"}
    data = {"log": ["it said hunter22!"], "n": 3, "blue": ("abcdefabcdef",)}
    shown = {"log": [f"it said {HIDDEN}!"], "n": 3, "blue": [HIDDEN * 2]}
    assert hide(data, secrets) == shown


def test_secrets_too_short_to_look_for_are_hidden_beside_their_names() -> None:
    words = ["--api-key", "abc", "--env", "KEY=abc", "--env=KEY=abc", "--password=", "abc"]
    hidden = ["--api-key", HIDDEN, "--env", f"KEY={HIDDEN}", f"--env=KEY={HIDDEN}"]
    assert without_secrets(words) == [*hidden, f"--password={HIDDEN}", "abc"]


def test_images_stay_whole() -> None:
    assert hide({"data_uri": "xsesamex", "name": "sesame"}, {"sesame"}) == {
        "data_uri": "xsesamex",
        "name": HIDDEN,
    }


def test_steps_beyond_what_a_browser_counts_do_no_harm() -> None:
    series = Series("loss", "value")
    for value, step in ((1.0, 0), (2.0, 10**400)):
        series.add(value, step, 5.0, 0)
    line = line_of("worker-0", series, begin=4.0)
    assert line.times == [1.0, 1.0] and all(map(math.isfinite, line.x))


def test_parameters_are_read_from_the_command_line(tmp_path: Path) -> None:
    (tmp_path / "train.py").touch()
    words = [
        "data.csv",
        "--epochs",
        "5",
        "--rate=0.1",
        "--fast",
        "--shift",
        "-3",
        "--password",
        "x",
    ]
    found = parameters_of(TensorFlow(tmp_path, entry_script="train.py", arguments=words))
    assert found == {
        "arg1": "data.csv",
        "epochs": 5,
        "rate": 0.1,
        "fast": True,
        "shift": -3,
        "password": "x",
    }
    assert labels(found)["password"] == HIDDEN and labels(found)["shift"] == "-3"


def run_with(folder: Path, states: dict[str, list[dict[str, object]]], workers: int) -> Run:
    """Make a run's folder by hand, with what its ranks and its job have put on record."""
    (folder / "state").mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"id": "run", "submitted": 1000.0}))
    roles = (Role("worker", workers),)
    plan = replace(PS_PLAN, roles=roles, components=(Component(1, workers),))
    (folder / "plan.json").write_text(plan.to_json())
    for name, records in states.items():
        text = "".join(json.dumps(record) + "\n" for record in records)
        (folder / "state" / f"{name}.jsonl").write_text(text)
    return Run(folder)


def test_each_start_of_a_rank_is_a_bar(tmp_path: Path) -> None:
    run = run_with(
        tmp_path / "run",
        {
            "worker-0": [
                {"event": "started", "time": 1020.0, "attempt": 0, "host": "n1"},
                {
                    "event": "ended",
                    "time": 1040.0,
                    "attempt": 0,
                    "exit_code": 143,
                    "asked": "warning",
                },
                {"event": "started", "time": 1060.0, "attempt": 1, "host": "n2"},
                {"event": "ended", "time": 1100.0, "attempt": 1, "exit_code": 0},
            ],
            "worker-1": [
                {"event": "started", "time": 1020.0, "attempt": 0, "host": "n3"},
                {
                    "event": "started",
                    "time": 1060.0,
                    "attempt": 1,
                    "host": "n3",
                    "seen": 1030.0,
                },
                {"event": "ended", "time": 1080.0, "attempt": 1, "exit_code": 7},
            ],
            "job": [{"event": "requeued", "time": 1041.0, "attempt": 0, "cause": "a warning"}],
        },
        workers=2,
    )
    line = timeline_of(run, now=2000.0, final=True)
    assert line is not None
    assert (line.begin, line.end, line.requeues) == (1000, 1100, [(1041.0, "a warning")])
    first, second = line.rows
    assert [(bar.end, bar.left, bar.width, bar.host) for bar in first.bars] == [
        ("asked", 200, 200, "n1"),
        ("completed", 600, 400, "n2"),
    ]
    assert "asked to end (warning)" in first.bars[0].words
    assert [(bar.end, bar.left, bar.width) for bar in second.bars] == [
        ("unknown", 200, 100),
        ("failed", 600, 200),
    ]
    assert second.bars[1].words == "exit code 7"


def test_a_rank_that_was_cut_off_was_last_seen_when_its_file_was_stamped(tmp_path: Path) -> None:
    states = {"worker-0": [{"event": "started", "time": 1050.0, "attempt": 0, "host": "n1"}]}
    run = run_with(tmp_path / "run", states, workers=1)
    os.utime(run.folder.state / "worker-0.jsonl", (1080.0, 1080.0))
    line = timeline_of(run, now=5000.0, final=True)
    assert line is not None
    assert [(bar.end, bar.ended) for bar in line.rows[0].bars] == [("unknown", 1080.0)]


def test_a_rank_that_runs_has_a_bar_up_to_now(tmp_path: Path) -> None:
    states = {"worker-0": [{"event": "started", "time": 1050.0, "attempt": 0, "host": "n1"}]}
    run = run_with(tmp_path / "run", states, workers=1)
    line = timeline_of(run, now=1100.0, final=False)
    assert line is not None
    (bar,) = line.rows[0].bars
    assert (bar.end, bar.ended, bar.left + bar.width) == ("running", None, WIDTH)


def test_a_run_that_has_not_started_has_no_timeline(tmp_path: Path) -> None:
    assert timeline_of(run_with(tmp_path / "run", {}, workers=3), 1100.0, final=False) is None
