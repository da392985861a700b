"""What a study has shown: plots, tables, pictures, its page, its card, its copy for Optuna."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from pathlib import Path
from typing import Any

import pytest

from hpctf import HyperDriveRun
from hpctf.errors import UsageError
from hpctf.notebook.show import LiveCard, run_in_words
from hpctf.notebook.study_charts import axis_of, history, parallel
from hpctf.tuning.expressions import choice, loguniform, uniform
from hpctf.tuning.results import results
from hpctf.tuning.sampling import parse_sampling
from tests.support.projects import hpctf
from tests.support.studies import CURVES, Studies


@pytest.fixture
def studies(tmp_path: Path) -> Studies:
    return Studies(tmp_path)


@pytest.fixture
def run(studies: Studies) -> HyperDriveRun:
    """A study of which five trials have ended, each in another way."""
    return studies.ended("s_1_ab", CURVES)


def command(run: HyperDriveRun, cwd: Path, *words: str) -> Any:
    return hpctf("tune", *words, cwd=cwd, env={"HPCTF_RUNS_ROOT": str(run.folder.root)})


def test_the_history_has_the_best_value_so_far(run: HyperDriveRun) -> None:
    found = results(run.study)["history"]
    assert found == [(0, 0.9, 0.9), (1, 0.2, 0.9), (2, 0.3, 0.9), (3, 0.95, 0.95)]


def test_the_parameter_that_decides_is_the_most_important_one(studies: Studies) -> None:
    pytest.importorskip("optuna")
    space = {"idle": uniform(0, 1), "lr": loguniform(math.log(1e-4), 0)}
    sampling = parse_sampling("random", space)
    drawn = [trial["lr"] for trial in sampling.first_trials(1, 40)]
    curves = [("completed", [-abs(math.log10(lr) + 2)]) for lr in drawn]
    run = studies.ended("two", curves, hyperparameter_sampling=sampling)
    found = results(run.study)["importances"]
    assert found is not None
    assert [*found] == ["lr", "idle"] and found["lr"] > 0.7
    assert results(studies.ended("three", CURVES).study)["importances"] in ({}, {"x": 1.0})


def test_plot_draws_the_history_here(run: HyperDriveRun, tmp_path: Path) -> None:
    shown = command(run, tmp_path, "plot", run.id, "--param", "x").stdout
    assert "best acc so far 0.95" in shown and "acc over x" in shown and "│" in shown
    told = json.loads(command(run, tmp_path, "plot", run.id, "--json").stdout)
    assert told["history"][-1] == [3, 0.95, 0.95]
    refused = command(run, tmp_path, "plot", run.id, "--param", "y")
    assert refused.returncode == 2 and "no numbers under the parameter 'y'" in refused.stderr
    trial = command(run, tmp_path, "plot", f"{run.id}_1")
    assert trial.returncode == 2
    assert f"{run.id}_1 is a trial of study {run.id}" in trial.stderr


def test_export_writes_a_row_for_each_trial(run: HyperDriveRun, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(command(run, tmp_path, "export", run.id).stdout)))
    assert [row["trial"] for row in rows] == list("01234")
    assert [row["acc"] for row in rows] == ["0.9", "0.2", "0.3", "0.95", ""]
    assert float(rows[2]["param:x"]) == run.study.drawn[2]["x"]
    done = command(run, tmp_path, "export", run.id, "--to", "trials.json")
    assert done.stdout == "trials.json\n"
    written = json.loads((tmp_path / "trials.json").read_text())
    assert [row["state"] for row in written] == [state for state, _ in CURVES]
    frame = run.to_pandas()
    assert list(frame.loc[f"{run.id}_0", ["acc", "state"]]) == [0.9, "completed"]


def test_optuna_opens_the_copy_of_a_study(studies: Studies, tmp_path: Path) -> None:
    optuna = pytest.importorskip("optuna")
    space = {"kind": choice("a", "b"), "units": choice([[64, 32], [16]])}
    run = studies.ended("two", CURVES[:4], hyperparameter_sampling=parse_sampling("grid", space))
    command(run, tmp_path, "export", "two", "--to", "study.log")
    storage = optuna.storages.JournalStorage(
        optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.log"))
    )
    found = optuna.load_study(study_name="two", storage=storage)
    assert [trial.state.name for trial in found.trials] == ["COMPLETE", "PRUNED", "FAIL", "FAIL"]
    assert (found.best_value, found.trials[0].intermediate_values) == (0.9, {0: 0.1, 1: 0.9})
    assert found.trials[0].params["kind"] == "a"
    again = command(run, tmp_path, "export", "two", "--to", "study.log")
    assert again.returncode == 2 and "is there already" in again.stderr


def test_the_report_has_every_picture_of_a_study(run: HyperDriveRun, tmp_path: Path) -> None:
    page = tmp_path / command(run, tmp_path, "report", run.id).stdout.strip()
    text = page.read_text()
    titles = re.findall("<title>(.*?)</title>", text)
    assert "History: acc of 4 trials, the best 0.95" in titles
    assert "acc over x, 4 trials" in titles
    assert "Parallel coordinates of 4 trials; the best 1 are marked" in titles
    assert "trial 1, stopped early" in text, "its curve"
    done = hpctf(
        "report", run.id, "--json", cwd=tmp_path, env={"HPCTF_RUNS_ROOT": str(run.folder.root)}
    )
    assert json.loads(done.stdout)[0]["best"]["trial"] == 3


def test_a_studys_card_keeps_up_with_it(run: HyperDriveRun) -> None:
    card = run._repr_html_()
    assert "Best acc: <b>0.95</b> (s_1_ab_3)" in card and "hpctf-chart" in card
    live = LiveCard(run.folder)
    assert "s_1_ab_3" in live.html() and live.over
    assert run_in_words(run.folder).startswith("s_1_ab: Completed: 2 completed, 1 stopped early")


def test_watching_a_study_that_is_over_says_how_it_ended(
    run: HyperDriveRun, tmp_path: Path
) -> None:
    done = command(run, tmp_path, "status", run.id, "--watch")
    assert done.returncode == 0
    assert done.stdout.startswith("s_1_ab: Completed: 2 completed")
    assert done.stdout.endswith("best acc 0.95\n")


def test_axes_fit_what_lies_on_them() -> None:
    numbers = axis_of([0.001, 0.01, 1.0])
    assert numbers.is_log and numbers.place(0.001) == 0 and numbers.place(1.0) == 1
    assert not axis_of([-1, 0, 1]).is_log and axis_of([-1, 0, 1]).place(0) == 0.5
    assert axis_of([3, 3]).place(3) == 0.5
    words = axis_of([True, "b", [1, 2]])
    assert sorted(map(words.place, [True, "b", [1, 2]])) == [0, 0.5, 1]
    assert axis_of(["one"]).place("one") == 0.5


def test_pictures_escape_names_and_need_values() -> None:
    assert history([], "acc") == "" == parallel([], ["x"], "acc", 1)
    rows = [{"value": n, "parameters": {"<b>": f"<i>{n}"}} for n in range(3)]
    drawn = parallel(rows, ["<b>"], "acc", -1)
    assert "<b>" not in drawn and "<i>" not in drawn and "&lt;i&gt;0" in drawn
    best = re.search('class="hpctf-best" points="([^"]*)"', drawn)
    assert best is not None and best[1].endswith(",170.0"), "the least is the best"


def test_other_commands_do_what_is_right_of_a_study_and_of_a_trial(
    run: HyperDriveRun, tmp_path: Path
) -> None:
    programs = tmp_path / "programs"
    programs.mkdir()
    forgotten = "echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1"
    for name, text in {"squeue": "", "sacct": "", "scontrol": forgotten}.items():
        (programs / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs / name).chmod(0o755)
    path = f"{programs}:{os.environ['PATH']}"
    env = {"HPCTF_RUNS_ROOT": str(run.folder.root), "PATH": path}

    def done(*words: str) -> Any:
        return hpctf(*words, cwd=tmp_path, env=env)

    refused = done("archive", f"{run.id}_0", "--yes")
    assert refused.returncode == 2
    assert "is a trial, which is archived with its study" in refused.stderr
    assert f"hpctf archive {run.id}\n" in refused.stderr
    assert done("watch", run.id).stdout.endswith("best acc 0.95\n")
    refused = done("metrics", run.id)
    assert refused.returncode == 2 and f"hpctf metrics {run.id}_0" in refused.stderr
    rows = list(csv.DictReader(io.StringIO(done("export", "csv", run.id).stdout)))
    assert [row["value"] for row in rows] == ["0.1", "0.9", "0.2", "0.3", "0.95", "0.5"]
    assert {row["run"] for row in rows} == {f"{run.id}_{number}" for number in range(4)}
    assert done("runs", "--rm", f"{run.id}_0", "--yes").stdout == f"{run.id}_0\n"
    with pytest.raises(UsageError, match="Trial 0 of study s_1_ab was removed"):
        run.trial(0)
    assert results(run.study)["best"]["trial"] == 3
