"""Searching with Optuna: what a cluster needs beyond it."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from hpctf.errors import UntrustedPath, UsageError
from hpctf.tuning import expressions as azure
from hpctf.tuning.distributions import LogUniform, QLogUniform
from hpctf.tuning.methods import parse_pruner, parse_sampler
from hpctf.tuning.search import open_search
from hpctf.tuning.trials import Told

optuna = pytest.importorskip("optuna")
pytestmark = pytest.mark.slow

EVERY_KIND = {
    "choice": azure.choice("a", "b"),
    "mixed": azure.choice(1, True, None, "1"),
    "nested": azure.choice([[64, 32], [128]]),
    "randint": azure.randint(10),
    "uniform": azure.uniform(-1, 1),
    "quniform": azure.quniform(8, 128, 8),
    "wide": azure.quniform(0, 1e300, 1),
    "loguniform": LogUniform(1e-5, 1e-1, of_values=True),
    "qloguniform": QLogUniform(4, 4096, 16, of_values=True),
    "normal": azure.normal(10, 2),
    "qnormal": azure.qnormal(10, 2, 2),
    "lognormal": azure.lognormal(0, 1),
    "qlognormal": azure.qlognormal(3, 1, 2),
}
LINE = {"x": azure.uniform(-10, 10)}


def opened(tmp_path: Path, space: Any = LINE, goals: Any = "minimize", **more: Any) -> Any:
    return open_search(tmp_path / "study.log", space, goals, **more)


def run(search: Any, count: int, value: Any = lambda parameters: parameters["x"] ** 2) -> None:
    for _ in range(count):
        asked = search.ask()
        search.tell(asked.number, value(asked.parameters))


@pytest.mark.parametrize("sampler", ["random", "tpe", "cmaes", "qmc", "nsga2"])
def test_every_expression_is_drawn_by_every_sampler(tmp_path: Path, sampler: str) -> None:
    search = opened(tmp_path, EVERY_KIND, sampler=sampler)
    run(search, 25, lambda parameters: abs(parameters["uniform"]))
    told = search.trials()
    assert [trial.state for trial in told] == ["complete"] * 25
    for trial in told:
        assert list(trial.parameters) == list(EVERY_KIND)
        for name, value in trial.parameters.items():
            outcomes = EVERY_KIND[name].outcomes()
            assert outcomes is None or value in outcomes
    json.dumps([trial.parameters for trial in told], allow_nan=False)
    assert len({json.dumps(trial.parameters) for trial in told}) == 25


def test_tpe_finds_the_least_of_a_parabola_and_random_does_worse(tmp_path: Path) -> None:
    search = opened(tmp_path, {"x": azure.normal(0, 10)}, seed=1)
    run(search, 60, lambda parameters: (parameters["x"] - 7) ** 2)
    assert search.best()[0].values[0] < 0.05


@pytest.mark.parametrize("sampler", ["tpe", "random", "qmc", "cmaes"])
def test_a_restart_goes_on_with_the_draws_that_it_would_have_made(
    tmp_path: Path, sampler: str
) -> None:
    def parameters(folder: Path, restarts: bool) -> list[dict[str, Any]]:
        folder.mkdir()
        search = opened(folder, sampler=sampler, seed=3)
        for _ in range(30):
            if restarts:
                search = opened(folder, sampler=sampler, seed=3)
            run(search, 1)
        return [told.parameters for told in search.trials()]

    without = parameters(tmp_path / "without", restarts=False)
    assert parameters(tmp_path / "with", restarts=True) == without
    assert len({trial["x"] for trial in without}) == 30


def test_another_seed_draws_others(tmp_path: Path) -> None:
    for seed in (1, 2):
        run(open_search(tmp_path / str(seed), LINE, "minimize", seed=seed), 3)
    one, two = (
        open_search(tmp_path / str(seed), LINE, "minimize", seed=seed).trials() for seed in (1, 2)
    )
    assert {told.parameters["x"] for told in one}.isdisjoint({told.parameters["x"] for told in two})


def test_a_trial_goes_on_in_another_process(tmp_path: Path) -> None:
    asked = opened(tmp_path).ask()
    again = opened(tmp_path, pruner="threshold:upper=5")
    assert again.parameters_of(asked.number) == asked.parameters
    again.report(asked.number, 1.0, 0)
    again.report(asked.number, 9.0, 0)  # a repeated step keeps its first value
    assert again.trials()[0].reports == {0: 1.0}
    assert not again.should_stop(asked.number)
    again.report(asked.number, 6.0, 1)
    assert again.should_stop(asked.number)
    assert again.tell(asked.number, 1.0, state="stopped", reason="threshold") == "stopped"
    (told,) = opened(tmp_path).trials()
    assert (told.state, told.values, told.reason) == ("stopped", (1.0,), "threshold")


def test_the_first_one_to_tell_counts(tmp_path: Path) -> None:
    search = opened(tmp_path)
    number = search.ask().number
    assert search.tell(number, 1.0) == "complete"
    assert search.tell(number, 2.0, state="failed") == "complete"
    assert search.trials()[0].values == (1.0,)
    with pytest.raises(UsageError, match="no trial 7"):
        search.tell(7, 1.0)


@pytest.mark.parametrize("state", ["complete", "stopped"])
def test_two_who_tell_a_trial_at_once_do_not_fail(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: Any
) -> None:
    search, other = opened(tmp_path), opened(tmp_path)
    number = search.ask().number
    before = search._trial(number)
    other.tell(number, 1.0)
    seen = [before]  # as it was when the second one looked

    def looked_at(number: int) -> Any:
        return seen.pop() if seen else other._trial(number)

    monkeypatch.setattr(search, "_trial", looked_at)
    assert search.tell(number, 2.0, state=state) == "complete"
    assert other.trials()[0].values == (1.0,)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, None, [1.0, 2.0]])
def test_what_is_no_finite_number_is_a_failed_trial(tmp_path: Path, value: Any) -> None:
    search = opened(tmp_path)
    assert search.tell(search.ask().number, value) == "failed"
    told = search.trials()[0]
    assert told.state == "failed" and told.values == () and told.reason
    assert search.best() == []
    run(search, 3)


def test_a_stopped_trial_keeps_its_best_value_and_can_be_the_best(tmp_path: Path) -> None:
    search = opened(tmp_path, goals="maximize")
    number = search.ask().number
    search.report(number, 0.9, 0)
    search.report(number, 0.2, 1)
    search.tell(number, 0.9, state="stopped", reason="bandit")
    run(search, 2, lambda parameters: 0.5)
    assert search.best()[0].number == number
    assert search.best()[0].values == (0.9,)


@pytest.mark.parametrize(
    "pruner", ["hyperband", "halving", "median:n_startup_trials=1", "percentile:25"]
)
def test_pruners_stop_bad_trials(tmp_path: Path, pruner: str) -> None:
    search = opened(tmp_path, pruner=pruner, goals="maximize")
    stopped = 0
    for level in range(30, 0, -1):
        number = search.ask().number
        for step in range(27):
            search.report(number, level * step, step)
            if search.should_stop(number):
                search.tell(number, level * step, state="stopped")
                stopped += 1
                break
        else:
            search.tell(number, level * 26)
    assert 5 < stopped < 30


def test_several_objectives_have_a_front(tmp_path: Path) -> None:
    search = opened(tmp_path, goals=["minimize", "maximize"], sampler="nsga2")
    for values in ([1, 1], [2, 2], [3, 1], [1, 1]):
        search.tell(search.ask().number, values)
    search.tell(search.ask().number, [0.5, 0.1], state="stopped")
    assert [told.number for told in search.best()] == [0, 1, 3, 4]
    with pytest.raises(UsageError, match="has the goals minimize, maximize"):
        opened(tmp_path)
    with pytest.raises(UsageError, match="cannot compare trials of 2 objectives"):
        opened(tmp_path, goals=["minimize", "maximize"], pruner="median")


def conditional(draw: Any) -> None:
    if draw("optimizer", azure.choice("adam", "sgd")) == "sgd":
        draw("momentum", azure.uniform(0.5, 0.99))


def test_a_space_can_be_a_function(tmp_path: Path) -> None:
    search = opened(tmp_path, conditional)
    run(search, 30, lambda parameters: parameters.get("momentum", 0.7))
    for told in search.trials():
        assert ("momentum" in told.parameters) == (told.parameters["optimizer"] == "sgd")
    search.enqueue({"optimizer": "sgd", "momentum": 0.6})
    assert search.ask().parameters == {"optimizer": "sgd", "momentum": 0.6}
    with pytest.raises(UsageError, match="momentum is missing"):
        search.enqueue({"optimizer": "sgd"})
    with pytest.raises(UsageError, match="momentum is not in the space"):
        search.enqueue({"optimizer": "adam", "momentum": 0.6})


def test_trials_put_in_line_come_first_with_exactly_their_values(tmp_path: Path) -> None:
    search = opened(tmp_path, EVERY_KIND)
    given = {
        "choice": "b",
        "mixed": True,
        "nested": [128],
        "randint": 3,
        "uniform": 0.1,
        "quniform": 24,
        "wide": 10,
        "loguniform": 1e-3,
        "qloguniform": 32,
        "normal": 10.3,
        "qnormal": 8,
        "lognormal": 0.7,
        "qlognormal": 6,
    }
    search.enqueue(given)
    search.enqueue({"uniform": 0.5})
    assert search.ask().parameters == given
    partly = search.ask()
    assert partly.parameters["uniform"] == 0.5 and list(partly.parameters) == list(EVERY_KIND)
    assert opened(tmp_path, EVERY_KIND).parameters_of(partly.number) == partly.parameters
    run(search, 3, lambda parameters: parameters["uniform"])


@pytest.mark.parametrize(
    "parameters, words",
    [
        ({"learning": 1}, "learning is not in the space"),
        ({"uniform": 2}, "uniform is 2, which uniform(-1, 1) does not have"),
        ({"choice": "c"}, "choice is 'c'"),
        ({"mixed": 1.5}, "mixed is 1.5"),
        ({"nested": [64]}, "nested is [64]"),
        ({"quniform": 9}, "quniform is 9"),
        ({"qnormal": 9}, "qnormal is 9"),
        ({"lognormal": -1}, "lognormal is -1"),
        ({"normal": "x"}, "normal is 'x'"),
    ],
)
def test_values_that_a_space_does_not_have_are_refused(
    tmp_path: Path, parameters: dict[str, Any], words: str
) -> None:
    with pytest.raises(UsageError) as refused:
        opened(tmp_path, EVERY_KIND).enqueue(parameters)
    assert words in str(refused.value)


def test_earlier_studies_of_another_space_warm_a_study(tmp_path: Path) -> None:
    earlier = [
        Told(0, "complete", {"x": 1.0, "old": 5}, (1.0,)),
        Told(1, "stopped", {"x": 2.0}, (4.0,)),
        Told(2, "complete", {"x": 99.0}, (9.0,)),
        Told(3, "failed", {"x": 3.0}),
        Told(4, "complete", {"y": 3.0}, (9.0,)),
    ]
    space = {**LINE, "z": azure.choice("a", "b")}
    search = opened(tmp_path, space)
    imported = search.warm_start(earlier, "first", {"z": "a"})
    assert imported.taken == 2
    assert imported.passed_over == {
        "Parameter x is 99.0, which uniform(-10, 10) does not have.": 1,
        "it has no value": 1,
        "Parameter x is missing.": 1,
    }
    assert [told.imported for told in search.trials()] == ["first/0", "first/1"]
    assert search.trials()[0].parameters == {"x": 1.0, "z": "a"}
    asked = search.ask()
    assert asked.number == 2
    search.tell(asked.number, 5.0)
    assert search.best()[0].imported == "first/0"


def test_a_journal_that_others_may_write_is_not_unpickled(tmp_path: Path) -> None:
    run(opened(tmp_path, sampler="cmaes"), 2)
    (tmp_path / "study.log").chmod(0o666)
    with pytest.raises(UntrustedPath, match="The study's journal"):
        opened(tmp_path, sampler="cmaes")
    run(opened(tmp_path, sampler="tpe"), 1)


def test_importances_name_what_matters(tmp_path: Path) -> None:
    space = {**LINE, "idle": azure.uniform(0, 1)}
    search = opened(tmp_path, space, sampler="random")
    assert search.importances() == {}
    run(search, 40)
    assert next(iter(search.importances())) == "x"


def test_words_of_samplers_and_pruners() -> None:
    chosen = parse_sampler("TPE: n_startup_trials=20, multivariate=true")
    assert chosen.arguments == {"n_startup_trials": 20, "multivariate": True}
    assert parse_sampler(str(chosen)) == chosen
    assert parse_pruner("percentile:10").arguments == {"percentile": 10}
    for parse, text, words in (
        (parse_sampler, "tpf", "Did you mean 'tpe'?"),
        (parse_sampler, "tpe:20", "NAME=VALUE"),
        (parse_pruner, "asha", "Use none, median"),
    ):
        with pytest.raises(UsageError) as refused:
            parse(text)
        assert words in str(refused.value)


def test_arguments_that_optuna_refuses(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="TPESampler"):
        opened(tmp_path, sampler="tpe:startup=20")
    with pytest.raises(UsageError, match="PercentilePruner"):
        opened(tmp_path, pruner="percentile:200")


def test_without_optuna_the_error_names_the_extra(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(UsageError, match=r"pip install 'hpctf\[tune\]'"):
        opened(tmp_path)


def test_gaussian_processes_name_the_extra_that_brings_torch(tmp_path: Path) -> None:
    pytest.importorskip("optuna")
    try:
        import torch  # noqa: F401
    except ImportError:
        with pytest.raises(UsageError, match=r"pip install 'hpctf\[gp\]'"):
            opened(tmp_path, sampler="gp")
    else:
        run(opened(tmp_path, sampler="gp:n_startup_trials=2"), 4)


def test_nothing_but_a_search_imports_optuna() -> None:
    modules = [
        *("config", "distributions", "draws", "expressions", "goals", "histories"),
        *("judging", "methods", "policies", "sampling", "search", "spaces", "trials"),
    ]
    imports = "; ".join(f"import hpctf.tuning.{name}" for name in modules)
    heavy = "{'optuna', 'numpy', 'yaml', 'scipy'}"
    code = f"{imports}; import hpctf.agents.journal, sys; print({heavy} & {{*sys.modules}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "set()", done.stderr
