"""Searching a space by what earlier trials have shown: any of Optuna's samplers and pruners.

`open_search` opens a study in a journal, and the agents of a study call it each for itself. Optuna
is imported there and nowhere else; without it the error says what to install. It never stands in
the training's environment.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from hpctf.errors import UsageError, did_you_mean, shown
from hpctf.tuning.distributions import Expression
from hpctf.tuning.goals import PrimaryMetricGoal, goal_of

if TYPE_CHECKING:
    from hpctf.tuning.optuna_search import Search

State = Literal["waiting", "running", "complete", "stopped", "failed"]


class Draw(Protocol):
    """What a space's function calls for each of its parameters."""

    def __call__(self, name: str, expression: Expression) -> Any:
        """Return the trial's value of a parameter."""


Define = Callable[[Draw], None]
"""A space as a function: which parameters there are may depend on the values of others.

    def space(draw):
        if draw("optimizer", choice("adam", "sgd")) == "sgd":
            draw("momentum", uniform(0.5, 0.99))
"""


@dataclass(frozen=True)
class Asked:
    """A trial to run: its number in the study, and its parameters."""

    number: int
    parameters: dict[str, Any]


@dataclass(frozen=True)
class Told:
    """A trial of a study.

    Parameters
    ----------
    values
        One for each objective, of a trial that has ended with one; the best that it had, also if it
        was stopped early.
    reason
        Why it failed or was stopped early.
    reports
        What the pruner was told, by step.
    imported
        Where the trial is from, if it is an earlier study's.
    """

    number: int
    state: State
    parameters: dict[str, Any]
    values: tuple[float, ...] = ()
    reason: str = ""
    reports: dict[int, float] = field(default_factory=dict)
    imported: str = ""


@dataclass(frozen=True)
class Imported:
    """How many trials of earlier studies were taken, and why others were not."""

    taken: int
    passed_over: dict[str, int]


@dataclass(frozen=True)
class Method:
    """A sampler or pruner of Optuna's, by a name.

    Parameters
    ----------
    cls
        The class in ``optuna.samplers`` or ``optuna.pruners``.
    usual
        Arguments that it gets unless others are given.
    first
        The argument that may stand without its name.
    needs
        A package beyond Optuna, and the extra that brings it.
    """

    cls: str
    usual: Mapping[str, Any] = field(default_factory=dict)
    first: str = ""
    needs: tuple[str, str] | None = None


SAMPLERS = {
    "tpe": Method("TPESampler"),
    "bayesian": Method("TPESampler"),
    "cmaes": Method(
        "CmaEsSampler", {"warn_independent_sampling": False}, needs=("cmaes", "hpctf[tune]")
    ),
    "qmc": Method(
        "QMCSampler",
        {"scramble": True, "warn_independent_sampling": False, "warn_asynchronous_seeding": False},
        needs=("scipy", "hpctf[tune]"),
    ),
    "random": Method("RandomSampler"),
    "nsga2": Method("NSGAIISampler"),
    "nsga3": Method("NSGAIIISampler"),
    "gp": Method("GPSampler", {"warn_independent_sampling": False}, needs=("torch", "hpctf[gp]")),
}
"""Samplers by the words of ``--sampler``. Random, Sobol and grid trials need none of them: they are
drawn ahead (`hpctf.tuning.sampling`)."""

PRUNERS = {
    "none": Method("NopPruner"),
    "median": Method("MedianPruner"),
    "percentile": Method("PercentilePruner", {"percentile": 25.0}, "percentile"),
    "halving": Method("SuccessiveHalvingPruner"),
    "hyperband": Method("HyperbandPruner"),
    "threshold": Method("ThresholdPruner"),
}
"""Pruners by the words of ``--pruner``. They are other rules than Azure ML's policies, also where
they share a name."""


@dataclass(frozen=True)
class Chosen:
    """A sampler or pruner with its arguments, as words name them: ``tpe:n_startup_trials=20``."""

    word: str
    method: Method
    arguments: dict[str, Any]

    def __str__(self) -> str:
        words = ",".join(f"{name}={value}" for name, value in self.arguments.items())
        return f"{self.word}:{words}" if words else self.word


def parse_sampler(text: str) -> Chosen:
    """Return the sampler of ``tpe``, ``cmaes``, ``qmc``, ``random``, ``nsga2``, ``nsga3`` or
    ``gp``, with arguments of Optuna's behind a colon."""
    return _parse("--sampler", text, SAMPLERS)


def parse_pruner(text: str) -> Chosen:
    """Return the pruner of ``none``, ``median``, ``percentile:25``, ``halving``, ``hyperband`` or
    ``threshold:upper=10``, with arguments of Optuna's behind a colon."""
    return _parse("--pruner", text, PRUNERS)


def open_search(
    path: str | os.PathLike[str],
    space: Mapping[str, Expression] | Define,
    goals: PrimaryMetricGoal | str | Sequence[PrimaryMetricGoal | str],
    *,
    sampler: str = "tpe",
    pruner: str = "none",
    seed: int = 0,
    name: str = "study",
) -> Search:
    """Open the study in a journal, or begin it.

    Parameters
    ----------
    path
        The journal (`hpctf.tuning.journal`).
    space
        Expressions by their parameters' names, or a function that draws them.
    goals
        One for each objective.
    sampler, pruner
        Words that `parse_sampler` and `parse_pruner` read.
    seed
        The study's: each trial's draws come from it and the trial's number, so that a restart
        neither repeats a draw nor changes one.

    Raises
    ------
    UsageError
        Optuna or what a sampler needs is not installed; a name or an argument is unknown; the
        journal's study has other goals.
    """
    several = goals if isinstance(goals, Sequence) and not isinstance(goals, str) else [goals]
    checked = [goal_of("goal", goal) for goal in several]
    chosen_sampler, chosen_pruner = parse_sampler(sampler), parse_pruner(pruner)
    if len(checked) > 1 and chosen_pruner.word != "none":
        raise UsageError(
            f"--pruner {chosen_pruner} cannot compare trials of {len(checked)} objectives.",
            "Leave the pruner out, or choose one objective.",
        )
    _check_installed("optuna", "Searching needs Optuna", "hpctf[tune]")
    for chosen in (chosen_sampler, chosen_pruner):
        if chosen.method.needs is not None:
            package, extra = chosen.method.needs
            _check_installed(package, f"The sampler {chosen.word} needs {package}", extra)

    from hpctf.tuning.optuna_search import Search

    return Search(path, space, checked, chosen_sampler, chosen_pruner, seed, name)


def _check_installed(package: str, sentence: str, extra: str) -> None:
    from importlib.util import find_spec

    try:
        is_there = find_spec(package) is not None
    except ValueError:
        is_there = False
    if not is_there:
        raise UsageError(f"{sentence}, which is not installed.", f"pip install '{extra}'")


def _parse(option: str, text: str, methods: Mapping[str, Method]) -> Chosen:
    word, _, rest = text.strip().partition(":")
    word = word.strip().lower()
    if word not in methods:
        near = did_you_mean(word, list(methods))
        raise UsageError(f"{option} {shown(text)} is unknown.{near}", f"Use {', '.join(methods)}.")
    method = methods[word]
    arguments: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        name, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals:
            name, value = method.first, part.strip()
        if not name:
            raise UsageError(
                f"{option} {shown(text)}: {shown(part)} is not of the form NAME=VALUE."
            )
        arguments[name] = _value(value)
    return Chosen(word, method, arguments)


def _value(text: str) -> Any:
    """Return a number, True, False, None or text."""
    words = {"true": True, "false": False, "none": None}
    if text.lower() in words:
        return words[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text
