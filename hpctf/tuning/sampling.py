"""How trials' parameters are chosen: Azure ML's samplings, with its restrictions."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from hpctf.errors import UsageError, shown
from hpctf.tuning.distributions import Choice, Expression, QUniform
from hpctf.tuning.draws import (
    grid_trials,
    random_trials,
    size_of,
    sobol_trials,
    unit_of,
    values_at,
)
from hpctf.tuning.enqueued import ENQUEUE, check_enqueued
from hpctf.tuning.goals import PrimaryMetricGoal, goal_of
from hpctf.tuning.methods import parse_pruner, parse_sampler
from hpctf.tuning.spaces import space_as_json, space_of
from hpctf.tuning.trials import Define

MOST_BAYESIAN_POINTS = 100_000
"""Points of a quniform that Azure ML's Bayesian sampling allows."""

RULES = ("random", "sobol")

_OPTION = re.compile(r"[^\s=\x00-\x1f\x7f]+")
"""What can be the name of an option of the script."""


@dataclass(frozen=True)
class HyperParameterSampling:
    """Base of the samplings.

    Parameters
    ----------
    parameter_space
        Expressions by the names of their parameters. Their text, Azure ML's JSON form, and a
        mapping with a ``type`` are taken, too (`hpctf.tuning.spaces.space_of`).
    properties
        Further settings of the sampling; which ones, it says. All take ``enqueue``, a list of
        parameters that the first trials get; those that one leaves out are drawn.
    """

    SAMPLING_NAME: ClassVar[str] = ""
    word: ClassVar[str] = ""
    allowed: ClassVar[tuple[str, ...] | None] = None
    """The expressions that it takes; None for all."""

    known_properties: ClassVar[tuple[str, ...]] = ()

    parameter_space: Mapping[str, Expression]
    properties: Mapping[str, Any] | None = field(default=None)

    def __post_init__(self) -> None:
        space = space_of(self.parameter_space, "parameter_space")
        object.__setattr__(self, "parameter_space", space)
        for name in self.properties or {}:
            if name not in (*self.known_properties, ENQUEUE):
                raise UsageError(
                    f"{type(self).__name__} has no property {shown(name)}.",
                    f"Its properties are {', '.join(self.known_properties) or 'none'}.",
                )
        for name, expression in space.items():
            if not _OPTION.fullmatch(name):
                raise UsageError(
                    f"Parameter {shown(name)} cannot be an option of the script (--NAME VALUE).",
                    "Leave out spaces, '=' and control characters.",
                )
            if self.allowed is not None and expression.word not in self.allowed:
                raise UsageError(
                    f"Parameter {name} is {expression}, but {type(self).__name__} takes "
                    f"{', '.join(self.allowed)} only.",
                    "Use RandomParameterSampling (--sampler random), which takes all expressions.",
                )
            self._check(name, expression)
        check_enqueued(self._enqueued, space)

    @property
    def _enqueued(self) -> Any:
        return (self.properties or {}).get(ENQUEUE) or []

    @property
    def search_pruner(self) -> str:
        """The word of Optuna's pruner that stops trials early, or ``none``."""
        return "none"

    @property
    def objectives(self) -> dict[str, PrimaryMetricGoal]:
        """Further metrics, by name, that count beside the primary one."""
        return {}

    def enqueued(self, seed: int) -> list[dict[str, Any]]:
        """Return the parameters of the trials that were put in line."""
        found = []
        for place, given in enumerate(self._enqueued):
            units = {name: unit_of(seed, -1 - place, name) for name in self.parameter_space}
            found.append({**values_at(self.parameter_space, units), **given})
        return found

    def _check(self, name: str, expression: Expression) -> None:
        """Refuse an expression that this sampling does not take."""

    @property
    def size(self) -> int | None:
        """How many combinations there are; None if there is no end of them."""
        return size_of(self.parameter_space)

    @property
    def is_drawn_ahead(self) -> bool:
        """Whether `trials` knows every trial before the first one has run."""
        return True

    @property
    def search_sampler(self) -> str:
        """The word of the sampler that draws trials which are not drawn ahead."""
        return "tpe"

    def trials(self, seed: int) -> Iterator[dict[str, Any]]:
        """Yield the parameters of trial 0, 1, 2 and so on; the same ones for the same seed."""
        raise NotImplementedError

    def first_trials(self, seed: int, most: int) -> list[dict[str, Any]]:
        """Return the parameters of the first trials: fewer than `most` if the space ends before."""
        return list(itertools.islice(self.trials(seed), most))

    def to_json(self) -> dict[str, Any]:
        """Return the sampling as Azure ML describes it."""
        space = {name: found.as_azure() for name, found in self.parameter_space.items()}
        document = {"name": self.SAMPLING_NAME, "parameter_space": space}
        return {**document, "properties": dict(self.properties)} if self.properties else document

    def as_record(self) -> dict[str, Any]:
        """Return plain data that `sampling_from_record` reads, without any loss."""
        return {
            "name": self.SAMPLING_NAME,
            "parameter_space": space_as_json(self.parameter_space),
            "properties": dict(self.properties or {}),
        }


@dataclass(frozen=True)
class RandomParameterSampling(HyperParameterSampling):
    """Draw each trial's parameters at random.

    In a space with an end no combination is drawn twice. ``properties={"rule": "sobol"}`` takes a
    Sobol sequence, as the SDK v2's ``RandomSamplingAlgorithm(rule="sobol")`` does, and
    ``{"seed": 7}`` a seed in place of the study's.
    """

    SAMPLING_NAME: ClassVar[str] = "RANDOM"
    word: ClassVar[str] = "random"
    known_properties: ClassVar[tuple[str, ...]] = ("rule", "seed")

    def __post_init__(self) -> None:
        super().__post_init__()
        rule, seed = self._property("rule"), self._property("seed")
        if rule is not None and rule not in RULES:
            raise UsageError(
                f"The rule of RandomParameterSampling is {shown(rule)}, but must be one of "
                f"{', '.join(RULES)}."
            )
        if seed is not None and type(seed) is not int:
            raise UsageError(
                f"The seed of RandomParameterSampling is {shown(seed)}, but must be a whole number."
            )

    def trials(self, seed: int) -> Iterator[dict[str, Any]]:
        own = self._property("seed")
        draw = sobol_trials if self._property("rule") == "sobol" else random_trials
        return draw(self.parameter_space, seed if own is None else own)

    def _property(self, name: str) -> Any:
        return (self.properties or {}).get(name)


@dataclass(frozen=True)
class GridParameterSampling(HyperParameterSampling):
    """Try every combination of choices, once each; the last parameter changes fastest."""

    SAMPLING_NAME: ClassVar[str] = "GRID"
    word: ClassVar[str] = "grid"
    allowed: ClassVar[tuple[str, ...] | None] = ("choice",)

    def trials(self, seed: int) -> Iterator[dict[str, Any]]:
        return grid_trials(self.parameter_space)


@dataclass(frozen=True)
class BayesianParameterSampling(HyperParameterSampling):
    """Draw parameters by what earlier trials have shown (`hpctf.tuning.search`).

    As in Azure ML it takes choice, uniform and quniform only, and no early termination policy.
    """

    SAMPLING_NAME: ClassVar[str] = "BayesianOptimization"
    word: ClassVar[str] = "bayesian"
    allowed: ClassVar[tuple[str, ...] | None] = ("choice", "uniform", "quniform")

    @property
    def is_drawn_ahead(self) -> bool:
        return False

    def trials(self, seed: int) -> Iterator[dict[str, Any]]:
        raise UsageError("Bayesian sampling needs the results of earlier trials for its next one.")

    def _check(self, name: str, expression: Expression) -> None:
        if isinstance(expression, Choice):
            kinds = {type(option) for option in expression.options}
            if not kinds <= {int, float, str}:
                raise UsageError(
                    f"Parameter {name} is {expression}, but the options of Bayesian sampling must "
                    "be whole numbers, numbers or text.",
                    "Use RandomParameterSampling (--sampler random), or give each option a name.",
                )
            if str in kinds and len(kinds) > 1:
                raise UsageError(
                    f"Parameter {name} is {expression}: its options must be all text, or none.",
                    "Put the numbers into quotes.",
                )
        if isinstance(expression, QUniform):
            low, high, q = expression.min_value, expression.max_value, expression.q
            if type(low) is not int or type(high) is not int:
                raise UsageError(
                    f"Parameter {name} is {expression}, but the bounds of quniform must be whole "
                    "numbers in Bayesian sampling."
                )
            if (high - low) / q > MOST_BAYESIAN_POINTS:
                raise UsageError(
                    f"Parameter {name} is {expression}, which has more than "
                    f"{MOST_BAYESIAN_POINTS:,} values.",
                    "Use a larger q, or uniform.",
                )


@dataclass(frozen=True)
class SearchSampling(HyperParameterSampling):
    """Draw parameters by any of Optuna's samplers (`hpctf.tuning.methods`).

    Azure ML has no such sampling. It takes every expression, and a policy as well:
    ``properties={"sampler": "tpe"}`` says which sampler, and ``{"pruner": "hyperband"}`` which of
    Optuna's pruners stops trials early, in place of a policy.
    """

    SAMPLING_NAME: ClassVar[str] = "OPTUNA"
    word: ClassVar[str] = "tpe"
    known_properties: ClassVar[tuple[str, ...]] = ("sampler", "pruner", "objectives")

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_search()

    def _check_search(self) -> None:
        sampler, pruner = parse_sampler(self.search_sampler), parse_pruner(self.search_pruner)
        if self.objectives and (sampler.word == "cmaes" or pruner.word != "none"):
            what = "--sampler cmaes" if pruner.word == "none" else f"--pruner {pruner}"
            raise UsageError(
                f"{what} knows one objective, but the study has {1 + len(self.objectives)}.",
                "Use --sampler tpe or nsga2, and no pruner.",
            )

    @property
    def is_drawn_ahead(self) -> bool:
        return False

    @property
    def search_sampler(self) -> str:
        return str((self.properties or {}).get("sampler", "tpe"))

    @property
    def search_pruner(self) -> str:
        return str((self.properties or {}).get("pruner", "none"))

    @property
    def objectives(self) -> dict[str, PrimaryMetricGoal]:
        given = (self.properties or {}).get("objectives") or {}
        return {str(name): goal_of(f"the goal of {name}", goal) for name, goal in given.items()}

    def trials(self, seed: int) -> Iterator[dict[str, Any]]:
        raise UsageError("A search needs the results of earlier trials for its next one.")


@dataclass(frozen=True)
class FunctionSampling(SearchSampling):
    """Draw parameters by a function that calls for each of them, so that which there are may depend
    on the values of others (`hpctf.tuning.functions`).

    Parameters
    ----------
    define
        The function; None of a study that has been submitted, whose folder has it.
    """

    SAMPLING_NAME: ClassVar[str] = "FUNCTION"
    word: ClassVar[str] = "a function"

    parameter_space: Mapping[str, Expression] = field(default_factory=dict)
    define: Define | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        self._check_search()

    def enqueued(self, seed: int) -> list[dict[str, Any]]:
        return [dict(given) for given in self._enqueued]


def function_sampling(
    text: str,
    define: Define,
    pruner: str = "none",
    enqueue: Sequence[Mapping[str, Any]] = (),
    objectives: Mapping[str, str] | None = None,
) -> FunctionSampling:
    """Return the sampling of a space that is a function; the words are `parse_sampling`'s."""
    word = text.strip().lower()
    if word in ("grid", "bayesian"):
        raise UsageError(
            f"--sampler {word} does not take a space that is a function.",
            "Use --sampler tpe, or random.",
        )
    properties = _of_search(text, pruner, enqueue, objectives)
    return FunctionSampling(properties=properties, define=define)


def _of_search(
    text: str,
    pruner: str,
    enqueue: Sequence[Mapping[str, Any]],
    objectives: Mapping[str, str] | None,
) -> dict[str, Any]:
    """Return the properties of a sampling by Optuna; its word for sobol is qmc."""
    line = {ENQUEUE: [dict(one) for one in enqueue]} if enqueue else {}
    more = {"objectives": dict(objectives)} if objectives else {}
    sampler = "qmc" if text.strip().lower() == "sobol" else text.strip()
    stops = {} if pruner.strip().lower() == "none" else {"pruner": pruner.strip()}
    return {"sampler": sampler, **stops, **line, **more}


def parse_sampling(
    text: str,
    space: Mapping[str, Any],
    pruner: str = "none",
    enqueue: Sequence[Mapping[str, Any]] = (),
    objectives: Mapping[str, str] | None = None,
) -> HyperParameterSampling:
    """Return the sampling that the words of ``--sampler`` name: ``random``, ``sobol``, ``grid``,
    ``bayesian``, or a sampler of Optuna's with its arguments, such as ``tpe:n_startup_trials=20``.

    Parameters
    ----------
    pruner
        The words of ``--pruner``: one of Optuna's, for all samplings but grid and Bayesian.
    enqueue
        Parameters that the first trials get.
    objectives
        Further metrics with their goals, for all samplings but grid and Bayesian.
    """
    word = text.strip().lower()
    line = {ENQUEUE: [dict(one) for one in enqueue]} if enqueue else {}
    prunes = parse_pruner(pruner).word != "none"
    if prunes or objectives:
        if word in ("grid", "bayesian"):
            raise UsageError(
                f"--{'pruner' if prunes else 'objective'} does not go with --sampler {word}.",
                "Use --policy with grid, and --sampler tpe in place of bayesian.",
            )
        return SearchSampling(space, _of_search(text, pruner, enqueue, objectives))
    if word == "random":
        return RandomParameterSampling(space, line or None)
    if word == "sobol":
        return RandomParameterSampling(space, {"rule": "sobol", **line})
    if word == "grid":
        return GridParameterSampling(space, line or None)
    if word == "bayesian":
        return BayesianParameterSampling(space, line or None)
    return SearchSampling(space, {"sampler": text.strip(), **line})


SAMPLINGS: tuple[type[HyperParameterSampling], ...] = (
    RandomParameterSampling,
    GridParameterSampling,
    BayesianParameterSampling,
    SearchSampling,
    FunctionSampling,
)


def sampling_from_record(record: Mapping[str, Any]) -> HyperParameterSampling:
    """Return the sampling that `HyperParameterSampling.as_record` or `to_json` describes."""
    names = {sampling.SAMPLING_NAME.lower(): sampling for sampling in SAMPLINGS}
    sampling = names.get(str(record.get("name")).lower())
    if sampling is None:
        name = shown(record.get("name"))
        raise UsageError(f"{name} is not a sampling: use random, grid or bayesian.")
    return sampling(record.get("parameter_space") or {}, record.get("properties") or None)
