"""Spaces that are functions: some parameters are there only where others have some value."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from hpctf.errors import UnreadableRun, UntrustedPath, UsageError
from hpctf.tuning.expressions import choice, uniform
from hpctf.tuning.functions import SPACE, define_of, function_of_file, tried
from hpctf.tuning.results import importances
from hpctf.tuning.sampling import function_sampling
from tests.support.projects import hpctf, project
from tests.support.studies import Studies, run_agent

pytest.importorskip("optuna")

FILE = """
from hpctf.tuning.expressions import choice

LEAST = 0.5

def space(draw):
    draw("lr", "uniform(0, 1)")
    if draw("optimizer", choice("adam", "sgd")) == "sgd":
        draw("momentum", f"uniform({LEAST}, 1)")
"""

SCRIPT = """
import sys
from hpctf import Run

words = sys.argv[1:]
assert ("--momentum" in words) == (words[words.index("--optimizer") + 1] == "sgd")
Run.get_context().log("acc", float(words[words.index("--lr") + 1]))
"""


def space(draw: Any) -> None:
    draw("lr", uniform(0, 1))
    if draw("optimizer", choice("adam", "sgd")) == "sgd":
        draw("momentum", uniform(0.5, 1))


def test_agents_draw_what_the_function_asks_for(tmp_path: Path) -> None:
    studies = Studies(tmp_path)
    sampling = function_sampling("random", space, enqueue=[{"lr": 0.5, "optimizer": "adam"}])
    run = studies.make("one", hyperparameter_sampling=sampling, max_total_runs=8)
    run = run_agent(run, SCRIPT)
    assert {trial.state for trial in run.progress.trials.values()} == {"completed"}
    drawn = [run.study.parameters_of(number) for number in range(8)]
    assert drawn[0] == {"lr": 0.5, "optimizer": "adam"}
    assert {len(parameters) for parameters in drawn} == {2, 3}
    assert isinstance(importances(run.study), dict)

    (run.folder.path / SPACE).chmod(0o666)
    with pytest.raises(UntrustedPath, match="The study's space"):
        define_of(run.study)
    assert importances(run.study) == {}
    (run.folder.path / SPACE).chmod(0o600)
    (run.folder.path / SPACE).write_bytes(b"")
    with pytest.raises(UnreadableRun, match="the function cannot be loaded"):
        define_of(run.study)


def test_a_file_has_the_function(tmp_path: Path) -> None:
    path = tmp_path / "space.py"
    path.write_text(FILE)
    drawn = tried(function_of_file(path), seed=3)
    assert 0 <= drawn["lr"] <= 1 and ("momentum" in drawn) == (drawn["optimizer"] == "sgd")
    source = project(tmp_path / "proj")

    def submitted(*words: str) -> Any:
        command = ("tune", "--site", "slurm", "--space", "space.py", "--metric", "acc", "--dry-run")
        env = {"HPCTF_RUNS_ROOT": str(tmp_path / "runs")}
        return hpctf(*command, *words, source / "train.py", cwd=tmp_path, env=env)

    assert submitted("--sampler", "tpe").returncode == 0
    refused = submitted("--param", "lr=uniform(0, 1)")
    assert refused.returncode == 2 and "contradict each other" in refused.stderr
    refused = submitted("--sampler", "grid")
    assert refused.returncode == 2 and "does not take a space that is a function" in refused.stderr
    path.write_text("space = 5")
    assert "has no function 'space'" in submitted().stderr
    path.write_text("import nothing_such")
    assert "cannot be run: ModuleNotFoundError" in submitted().stderr


@pytest.mark.parametrize(
    "define, words",
    [
        (lambda draw: None, "draws no parameter"),
        (lambda draw: 1 / 0, "raises ZeroDivisionError"),
        (lambda draw: draw("lr", "uniform(1, 0)"), "uniform"),
    ],
)
def test_a_function_that_draws_nothing_is_refused(define: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        tried(define, 0)
