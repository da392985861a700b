"""An agent on this machine: what Optuna's search does with the trials that it runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from hpctf import HyperDriveConfig
from hpctf.errors import UsageError
from hpctf.tuning.policies import BanditPolicy
from hpctf.tuning.sampling import parse_sampling
from hpctf.tuning.search import open_search
from hpctf.tuning.study import JOURNAL
from tests.support.projects import hpctf
from tests.support.studies import SPACE, Studies, run_agent

pytest.importorskip("optuna")

SCRIPT = """
import sys, time
from hpctf import Run

x = float(sys.argv[sys.argv.index("--x") + 1])
run = Run.get_context()
for step in range(3):
    run.log("acc", x + step)
while x < 1:  # until it is stopped
    time.sleep(0.1)
"""


@pytest.fixture
def studies(tmp_path: Path) -> Studies:
    return Studies(tmp_path)


def test_a_pruner_stops_trials_that_the_search_has_drawn(studies: Studies) -> None:
    pruner = "median:n_startup_trials=1"
    sampling = parse_sampling("tpe", SPACE, pruner, enqueue=[{"x": 1.0}])
    run = studies.make("one", hyperparameter_sampling=sampling, max_total_runs=3)
    run = run_agent(run, SCRIPT)
    first, *others = run.progress.trials.values()
    assert (first.state, first.best, run.study.parameters_of(0)) == ("completed", 3, {"x": 1.0})
    for trial in others:
        assert trial.state == "stopped"
        assert f"Optuna's pruner {pruner}: last" in trial.reason
        assert 0 <= run.study.parameters_of(trial.number)["x"] < 1
    search = open_search(run.folder.path / JOURNAL, SPACE, "maximize")
    states = {
        told.imported or told.number: (told.state, len(told.reports)) for told in search.trials()
    }
    assert states["one/0"] == ("complete", 3)
    assert sorted(states.values()) == [("complete", 3), ("stopped", 3), ("stopped", 3)]


def test_a_study_has_a_policy_or_a_pruner(studies: Studies) -> None:
    sampling = parse_sampling("random", SPACE, "hyperband")
    assert sampling.search_sampler == "random", "drawn by Optuna, which prunes its own trials only"
    with pytest.raises(UsageError, match="but takes one"):
        HyperDriveConfig(
            sampling, "acc", "maximize", 4, policy=BanditPolicy(slack_amount=1), estimator="one"
        )
    for word in ("grid", "bayesian"):
        with pytest.raises(UsageError, match=f"--pruner does not go with --sampler {word}"):
            parse_sampling(word, SPACE, "median")


def test_enqueued_trials_come_first_and_what_they_leave_out_is_drawn(studies: Studies) -> None:
    space = {**SPACE, "y": "choice(1, 2)"}
    line = [{"x": 0.5}, {"x": 0.25, "y": 2}]
    sampling = parse_sampling("random", space, enqueue=line)
    run = studies.make("one", hyperparameter_sampling=sampling)
    first, second, *drawn = run.study.drawn
    assert first["x"] == 0.5 and first["y"] in (1, 2)
    assert second == line[1] and len(drawn) == 2
    with pytest.raises(UsageError, match="enqueue has 'z', which is not a parameter"):
        parse_sampling("tpe", space, enqueue=[{"z": 1}])
    with pytest.raises(
        UsageError, match="2 trials continue or are enqueued, more than the study has"
    ):
        studies.make("two", hyperparameter_sampling=sampling, max_total_runs=1)


TWO = """
import sys
from hpctf import Run

x = float(sys.argv[sys.argv.index("--x") + 1])
run = Run.get_context()
for step in range(2):
    run.log("acc", x + step)
    run.log("latency", abs(x - 0.5) if x < 0.9 else float("nan"))
"""


def test_of_several_objectives_the_best_are_those_that_no_other_trial_beats(
    studies: Studies, tmp_path: Path
) -> None:
    line = [{"x": x} for x in (0.5, 0.25, 0.75, 0.95)]
    sampling = parse_sampling("tpe", SPACE, enqueue=line, objectives={"latency": "minimize"})
    run = studies.make("one", hyperparameter_sampling=sampling, max_total_runs=5)
    run = run_agent(run, TWO)
    trials = run.progress.trials
    assert trials[0].objectives == {"acc": 1.5, "latency": 0}
    assert trials[3].objectives == {"acc": 1.95}, "NaN is no value"

    env = {"HPCTF_RUNS_ROOT": str(run.folder.root)}
    told = json.loads(hpctf("tune", "best", "one", "--json", cwd=tmp_path, env=env).stdout)
    front = {row["trial"] for row in told} - {4}
    assert front == {0, 2}, "trial 1 has less accuracy than 0, and more latency"
    shown = hpctf("tune", "status", "one", cwd=tmp_path, env=env).stdout
    assert "latency" in shown.splitlines()[0]
    goals = ["maximize", "minimize"]
    search = open_search(run.folder.path / JOURNAL, SPACE, goals)
    values = {one.imported: one.values for one in search.trials()}
    assert values["one/2"] == (1.75, 0.25) and "one/3" not in values


@pytest.mark.parametrize(
    "sampler, pruner, words",
    [
        ("grid", "none", "--objective does not go with --sampler grid"),
        ("cmaes", "none", "--sampler cmaes knows one objective"),
        ("tpe", "hyperband", "--pruner hyperband knows one objective"),
    ],
)
def test_what_knows_one_objective_is_refused_with_two(
    sampler: str, pruner: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        parse_sampling(sampler, SPACE, pruner, objectives={"latency": "minimize"})
    with pytest.raises(UsageError, match="The goal is 'less'"):
        parse_sampling("tpe", SPACE, objectives={"latency": "less"})
