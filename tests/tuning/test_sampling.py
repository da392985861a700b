"""Trials are drawn by the study's seed and their numbers."""

from __future__ import annotations

import itertools
import json
import math
import sys
from collections import Counter

import pytest

from hpctf.errors import UsageError
from hpctf.tuning import expressions as azure
from hpctf.tuning.distributions import identity
from hpctf.tuning.draws import random_trials, seed_of, size_of, unit_of
from hpctf.tuning.sampling import (
    BayesianParameterSampling,
    GridParameterSampling,
    HyperParameterSampling,
    RandomParameterSampling,
    sampling_from_record,
)

SPACE = {
    "lr": azure.loguniform(-12, -2),
    "batch": azure.choice(16, 32, 64),
    "units": azure.quniform(8, 128, 8),
    "decay": azure.normal(0, 1),
}
CHOICES = {"a": azure.choice("x", "y", "z"), "b": azure.choice(1, 2), "c": azure.randint(5)}
SOBOL = {"rule": "sobol"}


@pytest.mark.parametrize("properties", [None, SOBOL], ids=["random", "sobol"])
def test_a_study_gives_the_same_trials_again_and_a_longer_one_begins_with_them(
    properties: dict[str, str] | None,
) -> None:
    sampling = RandomParameterSampling(SPACE, properties)
    trials = sampling.first_trials(7, 300)
    assert sampling.first_trials(7, 300) == trials
    assert sampling.first_trials(7, 20) == trials[:20]
    assert sampling.first_trials(8, 20) != trials[:20]


def test_another_parameter_changes_no_draw_of_the_others() -> None:
    more = {"first": azure.uniform(0, 1), **SPACE}
    for trial, with_more in zip(
        RandomParameterSampling(SPACE).first_trials(7, 9),
        RandomParameterSampling(more).first_trials(7, 9),
        strict=True,
    ):
        del with_more["first"]
        assert with_more == trial


def test_draws_stay_as_they_are_from_version_to_version() -> None:
    """A study that is resumed by a newer hpctf goes on with its own trials."""
    assert unit_of(7, 0, "lr") == 0.07532840365556798
    assert seed_of(7, 0) == 1135101420


def test_uniform_numbers_are_uniform_and_within_their_bounds() -> None:
    units = [unit_of(1, number, "x") for number in range(20_000)]
    assert min(units) > 0 and max(units) < 1
    assert sum(units) / len(units) == pytest.approx(0.5, abs=0.01)
    counts = Counter(int(unit * 20) for unit in units)
    assert all(count == pytest.approx(1000, abs=150) for count in counts.values())


def test_sobol_fills_a_space_more_evenly() -> None:
    space = {"x": azure.uniform(0, 1), "y": azure.uniform(0, 1)}

    def cells(properties: dict[str, str] | None) -> int:
        trials = RandomParameterSampling(space, properties).first_trials(1, 256)
        return len({(int(trial["x"] * 16), int(trial["y"] * 16)) for trial in trials})

    assert cells(SOBOL) == 256
    assert cells(None) < 200


@pytest.mark.parametrize("properties", [None, SOBOL], ids=["random", "sobol"])
def test_a_finite_space_is_tried_without_repeats_until_it_ends(
    properties: dict[str, str] | None,
) -> None:
    sampling = RandomParameterSampling(CHOICES, properties)
    trials = sampling.first_trials(3, 1000)
    assert len(trials) == sampling.size == 30
    assert len(set(map(identity, trials))) == 30


def test_what_is_drawn_rarely_has_its_trial_too() -> None:
    rare = {"k": azure.choice(*["often"] * 400, "rare"), "j": azure.choice(*[1] * 500, 2)}
    trials = list(random_trials(rare, 1))
    assert len(trials) == 4
    assert trials == list(itertools.islice(random_trials(rare, 1), 4))


def test_more_values_than_can_be_counted_have_no_end() -> None:
    space = {"q": azure.quniform(0, 1e300, 1)}
    assert size_of(space) is None
    assert len(RandomParameterSampling(space).first_trials(1, 5)) == 5


def test_options_given_twice_are_twice_as_likely() -> None:
    space = {"a": azure.choice("x", "x", "y"), "u": azure.uniform(0, 1)}
    found = Counter(trial["a"] for trial in RandomParameterSampling(space).first_trials(1, 3000))
    assert found["x"] / found["y"] == pytest.approx(2, rel=0.15)


def test_a_grid_is_every_combination_once() -> None:
    space = {"a": azure.choice(1, 2, 1, True), "b": azure.choice("x", None)}
    sampling = GridParameterSampling(space)
    trials = sampling.first_trials(1, 100)
    assert trials == [{"a": a, "b": b} for a, b in itertools.product([1, 2, True], ["x", None])]
    assert sampling.size == 6
    assert sampling.first_trials(2, 2) == trials[:2]


@pytest.mark.parametrize(
    "sampling",
    [
        RandomParameterSampling(SPACE, {"rule": "sobol", "seed": 3}),
        RandomParameterSampling({"lr": "loguniform(1e-5, 1e-1)"}),
        GridParameterSampling({"a": azure.choice([[1, 2], [3]])}),
        BayesianParameterSampling({"a": azure.choice(1, 2.5), "b": azure.quniform(1, 9, 2)}),
    ],
    ids=lambda sampling: sampling.word,
)
def test_a_sampling_survives_json(sampling: HyperParameterSampling) -> None:
    assert sampling_from_record(json.loads(json.dumps(sampling.as_record()))) == sampling


def test_azure_mls_json() -> None:
    sampling = RandomParameterSampling({"a": azure.choice(1, 2), "b": azure.loguniform(-6, -1)})
    document = {
        "name": "RANDOM",
        "parameter_space": {"a": ["choice", [[1, 2]]], "b": ["loguniform", [-6, -1]]},
    }
    assert sampling.to_json() == document
    assert sampling_from_record(document) == sampling


def test_a_seed_of_its_own_goes_before_the_studys() -> None:
    own = RandomParameterSampling(SPACE, {"seed": 7}).first_trials(1, 5)
    assert own == RandomParameterSampling(SPACE).first_trials(7, 5)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: RandomParameterSampling({}), "must map names"),
        (lambda: RandomParameterSampling(None), "must map names"),  # type: ignore[arg-type]
        (lambda: RandomParameterSampling(SPACE, {"sed": 1}), "no property 'sed'"),
        (lambda: RandomParameterSampling(SPACE, {"rule": "halton"}), "random, sobol"),
        (lambda: RandomParameterSampling(SPACE, {"seed": "1"}), "whole number"),
        (lambda: GridParameterSampling(SPACE), "takes choice only"),
        (lambda: BayesianParameterSampling(SPACE), "takes choice, uniform, quniform only"),
        (lambda: BayesianParameterSampling({"a": azure.choice(True)}), "must be whole numbers"),
        (lambda: BayesianParameterSampling({"a": azure.choice("x", 1)}), "all text, or none"),
        (lambda: BayesianParameterSampling({"a": azure.quniform(0.5, 9, 1)}), "whole numbers"),
        (lambda: BayesianParameterSampling({"a": azure.quniform(0, 200_001, 1)}), "larger q"),
        (lambda: BayesianParameterSampling({"a": azure.choice(1)}).trials(1), "earlier trials"),
    ],
)
def test_azure_mls_restrictions(make, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        make()
    assert words in str(refused.value)


def test_without_scipy_the_error_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "scipy.stats.qmc", None)
    with pytest.raises(UsageError, match=r"pip install 'hpctf\[tune\]'"):
        RandomParameterSampling(SPACE, SOBOL).first_trials(1, 1)


def test_normal_draws_are_finite_at_the_ends() -> None:
    assert all(math.isfinite(azure.normal(0, 1).at(unit)) for unit in (2**-54, 1 - 2**-53))
