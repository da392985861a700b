"""Agents draw a study's next trial by what earlier ones have shown, whoever of them died."""

from __future__ import annotations

from pathlib import Path

import pytest

from hpctf import HyperDriveConfig, TensorFlow
from hpctf.run_folder.layout import RunFolder
from hpctf.tuning.expressions import uniform
from hpctf.tuning.sampling import parse_sampling
from hpctf.tuning.search import open_search
from hpctf.tuning.search_of import SearchOf, search_of
from hpctf.tuning.study import JOURNAL, Study, write_study
from hpctf.tuning.submit import define
from tests.support.projects import project

pytest.importorskip("optuna")


def study_in(folder: Path, source: Path, sampler: str = "tpe") -> Study:
    if not folder.exists():
        folder.mkdir()
        (folder / "run.json").write_text("{}")
        sampling = parse_sampling(sampler, {"x": uniform(0, 1)})
        estimator = TensorFlow(source, entry_script="train.py")
        config = HyperDriveConfig(sampling, "acc", "maximize", 40, estimator=estimator)
        write_study(RunFolder(folder), *define(config, seed=1))
    found = Study(RunFolder(folder))
    found.ledger.refresh()
    return found


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return project(tmp_path / "proj")


def claim_next(study: Study, search: SearchOf) -> int:
    """Claim the next trial, as agents do."""
    with study.ledger.held() as progress:
        number = progress.next_trial(0, lambda agent: False)
        assert number is not None
        asked = search.draw(progress)
        more = {"parameters": asked.parameters, "drawn_as": asked.number}
        study.ledger.claim(number, 0, "n1", "7_0", **more)
        return number


def run_next(study: Study, search: SearchOf) -> float:
    """Run a trial whose value is best at 0.7, and return its parameter."""
    number = claim_next(study, search)
    x: float = study.parameters_of(number)["x"]
    study.ledger.log(number, 0, [(0, -abs(x - 0.7))])
    study.ledger.end(number, 0, "completed")
    search.tell(study.ledger.progress)
    return x


def told(study: Study) -> list[tuple[str, float | None]]:
    """Return state and parameter of each of the search's own trials, from its journal."""
    search = open_search(study.folder.path / JOURNAL, {"x": uniform(0, 1)}, "maximize")
    return [(trial.state, trial.parameters.get("x")) for trial in search.trials()]


def test_a_search_learns_from_trials(tmp_path: Path, source: Path) -> None:
    study = study_in(tmp_path / "s", source)
    search = search_of(study)
    assert search is not None
    drawn = [run_next(study, search) for _ in range(40)]
    assert all(0 <= x <= 1 for x in drawn)
    assert min(abs(x - 0.7) for x in drawn) < 0.05
    assert sum(abs(x - 0.7) < 0.25 for x in drawn[-15:]) > 8


def test_a_trial_drawn_by_an_agent_that_died_is_not_one(tmp_path: Path, source: Path) -> None:
    study = study_in(tmp_path / "s", source)
    search = SearchOf(study)
    first = run_next(study, search)
    search.draw(study.ledger.progress)  # and then the agent dies
    again = study_in(tmp_path / "s", source)
    search = SearchOf(again)
    others = [run_next(again, search), run_next(again, search)]
    assert sorted(again.ledger.progress.trials) == [0, 1, 2]
    assert [state for state, _ in told(again)] == ["complete", "failed", "complete", "complete"]
    assert [x for state, x in told(again) if state == "complete"] == [first, *others]


def test_a_trial_whose_end_was_never_told_is_told_by_the_next_agent(
    tmp_path: Path, source: Path
) -> None:
    study = study_in(tmp_path / "s", source)
    claim_next(study, SearchOf(study))
    study.ledger.log(0, 0, [(0, 0.5)])
    study.ledger.end(0, 0, "completed")
    run_next(study, SearchOf(study))
    assert [state for state, _ in told(study)] == ["complete", "complete"]


def test_trials_that_are_drawn_ahead_need_no_search(tmp_path: Path, source: Path) -> None:
    assert search_of(study_in(tmp_path / "s", source, "random")) is None
