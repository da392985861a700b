"""An agent on this machine: what Optuna's search does with the trials that it runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpctf import HyperDriveConfig
from hpctf.errors import UsageError
from hpctf.tuning.policies import BanditPolicy
from hpctf.tuning.sampling import parse_sampling
from hpctf.tuning.search import open_search
from hpctf.tuning.study import JOURNAL
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
    with pytest.raises(UsageError, match="2 trials go on or are enqueued, more than the study has"):
        studies.make("two", hyperparameter_sampling=sampling, max_total_runs=1)
