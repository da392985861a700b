"""Optuna's samplers and pruners by the words of ``--sampler`` and ``--pruner``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from hpctf.errors import UsageError, did_you_mean, shown


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
    unpickles
        Whether it reads pickles from the journal, which run as whoever opens it.
    """

    cls: str
    usual: Mapping[str, Any] = field(default_factory=dict)
    first: str = ""
    needs: tuple[str, str] | None = None
    unpickles: bool = False


SAMPLERS = {
    "tpe": Method("TPESampler"),
    "bayesian": Method("TPESampler"),
    "cmaes": Method(
        "CmaEsSampler",
        {"warn_independent_sampling": False},
        needs=("cmaes", "hpctf[tune]"),
        unpickles=True,
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
                f"{option} {shown(text)}: {shown(part)} is not of the form NAME=VALUE.",
                "Put an = between name and value.",
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
