"""A study takes over what earlier ones have shown, and goes on with their trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpctf.run import Run
from hpctf.runs.checkpoints import VARIABLE
from hpctf.runs.housekeeping.dependents import users_of
from hpctf.runs.status.listing import Listed
from hpctf.tuning.agent.trial_folder import open_trial
from hpctf.tuning.earlier import compare_with, read_results
from hpctf.tuning.expressions import choice, uniform
from hpctf.tuning.judging import judge
from hpctf.tuning.policies import BanditPolicy
from hpctf.tuning.sampling import GridParameterSampling, parse_sampling
from hpctf.tuning.search import open_search
from hpctf.tuning.search_of import SearchOf
from hpctf.tuning.study import JOURNAL
from tests.support.studies import CURVES, SPACE, Studies

RESUMES = 'import sys\nwhere = sys.argv[sys.argv.index("--resume-from") + 1]\n'


@pytest.fixture
def studies(tmp_path: Path) -> Studies:
    return Studies(tmp_path)


def test_a_search_learns_from_earlier_studies(studies: Studies) -> None:
    pytest.importorskip("optuna")
    earlier = studies.ended("one", CURVES)
    run = studies.make(
        "two", hyperparameter_sampling=parse_sampling("tpe", SPACE), resume_from=earlier
    )
    search = open_search(run.folder.path / JOURNAL, SPACE, "maximize")
    known = {told.imported: (told.parameters, told.values) for told in search.trials()}
    drawn = earlier.study.drawn
    assert known == {"one/0": (drawn[0], (0.9,)), "one/1": (drawn[1], (0.2,))}
    assert studies.notes == [
        "4 results of one: the search has learned from 2.",
        "2 results were ignored: its trial failed, or was cancelled",
    ]


def test_results_of_another_space_are_passed_over_with_the_reason(studies: Studies) -> None:
    pytest.importorskip("optuna")
    earlier = studies.ended("one", [("completed", [0.5]), ("completed", [0.6])])
    space = {"x": uniform(5, 6)}
    studies.make("two", hyperparameter_sampling=parse_sampling("tpe", space), resume_from=earlier)
    assert studies.notes[0] == "2 results of one: the search has learned from 0."
    assert "which uniform(5, 6) does not have" in studies.notes[1]


def test_a_policy_compares_trials_with_those_of_earlier_studies(studies: Studies) -> None:
    earlier = studies.ended("one", CURVES)
    policy = BanditPolicy(slack_amount=0.1)
    run = studies.make("two", policy=policy, resume_from=[earlier])
    progress = run.progress
    compare_with(progress.histories, read_results(run.study))
    run.study.ledger.claim(0, 0, "n1", "8_0")
    run.study.ledger.log(0, 0, [(0, 0.5)])
    verdict = judge(policy, progress.histories, 0)
    assert verdict.stop and "where trial one_3 is the best of all" in verdict.reason
    assert "policy compares" in studies.notes[0]


def test_the_best_run_may_be_an_earlier_studys(studies: Studies) -> None:
    earlier = studies.ended("one", CURVES)
    run = studies.ended("two", [("completed", [0.7])], resume_from=earlier)

    def best(**which: bool) -> str:
        found = run.get_best_run_by_primary_metric(**which)
        assert found is not None
        return found.id

    assert best() == "one_3"
    assert best(include_canceled=False) == "one_0"
    assert best(include_resume_from_runs=False) == "two_0"
    assert [found.id for found in run.hyperdrive_config.resume_from] == ["one"]
    earlier.folder.remove()
    assert best() == "two_0"


def test_trials_that_go_on_come_first_and_nothing_is_tried_twice(studies: Studies) -> None:
    grid = GridParameterSampling({"a": choice(1, 2, 3, 4)})
    earlier = studies.ended("one", [("canceled", [0.1])] * 3, hyperparameter_sampling=grid)
    run = studies.make(
        "two", hyperparameter_sampling=grid, resume_child_runs=[earlier.trial(2), earlier.trial(1)]
    )
    assert run.study.drawn == [{"a": 3}, {"a": 2}, {"a": 1}, {"a": 4}]
    assert [found.id for found in run.hyperdrive_config.resume_child_runs] == ["one_2", "one_1"]


def test_a_trial_goes_on_with_what_the_earlier_one_has_left(studies: Studies) -> None:
    earlier = studies.ended("one", [("canceled", [0.1, 0.2]), ("canceled", [0.3])])
    before = earlier.trial(0)
    (before.folder.checkpoints / "step").write_text("2")
    (before.folder.outputs / "model").write_text("old")
    children = [before, earlier.trial(1)]
    run = studies.make("two", resume_child_runs=children)
    trial = open_trial(run.study, 0, 0, "8_0")
    assert (trial.checkpoints / "step").read_text() == "2"
    assert Run(trial).get_metrics() == {"acc": [0.1, 0.2]}
    assert trial.read_plan()["resumed_from"] == str(before.folder.checkpoints)
    assert not trial.resumed.exists(), "its script takes no --resume-from"

    nothing = open_trial(run.study, 1, 0, "8_0")
    assert Run(nothing).get_metrics() == {}, "it begins anew"
    assert nothing.read_plan()["resumed_from"] is None

    (studies.source / "train.py").write_text(RESUMES)
    run = studies.make("three", resume_child_runs=children)
    trial = open_trial(run.study, 0, 0, "8_0")
    entry = trial.read_plan()["entry"]
    assert entry["command"][-2:] == ["--resume-from", str(trial.resumed)]
    assert entry["environment"][VARIABLE] == str(trial.resumed)
    assert (trial.resumed / "model").read_text() == "old"


def test_a_search_learns_once_of_a_trial_that_went_on(studies: Studies) -> None:
    pytest.importorskip("optuna")
    earlier = studies.ended("one", [("canceled", [0.1])])
    run = studies.make(
        "two",
        hyperparameter_sampling=parse_sampling("tpe", SPACE),
        resume_child_runs=earlier.get_children(),
    )
    assert run.study.drawn == earlier.study.drawn
    run.study.ledger.claim(0, 0, "n1", "8_0")
    run.study.ledger.log(0, 0, [(0, 0.8)])
    progress = run.study.ledger.end(0, 0, "completed")
    for agent in (SearchOf(run.study), SearchOf(run.study)):
        agent.draw(progress)
    search = open_search(run.folder.path / JOURNAL, SPACE, "maximize")
    values = [told.values for told in search.trials() if told.imported]
    assert values == [(0.8,)]


def test_an_earlier_study_stays_while_one_that_goes_on_from_it_is_not_over(
    studies: Studies,
) -> None:
    earlier = studies.ended("one", CURVES)
    run = studies.make("two", resume_child_runs=[earlier.trial(3)])
    waiting = [Listed(run.folder, {"state": "Queued"})]
    assert users_of([earlier.folder.path], waiting) == {earlier.folder.path: ["two"]}
