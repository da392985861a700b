"""Searching a space by what earlier trials have shown: any of Optuna's samplers and pruners.

`open_search` opens a study in a journal, and the agents of a study call it each for itself. Optuna
is imported there and nowhere else; without it the error says what to install. It never stands in
the training's environment.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from hpctf.common.trusted_path import check
from hpctf.errors import UsageError
from hpctf.tuning.distributions import Expression
from hpctf.tuning.goals import PrimaryMetricGoal, goal_of
from hpctf.tuning.methods import Chosen, parse_pruner, parse_sampler
from hpctf.tuning.trials import Define

if TYPE_CHECKING:
    from hpctf.tuning.optuna_search import Search


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
        The journal (`hpctf.agents.journal`).
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
    UntrustedPath
        The sampler reads pickles from the journal (``cmaes``), and others may write it.
    """
    several = goals if isinstance(goals, Sequence) and not isinstance(goals, str) else [goals]
    checked = [goal_of("goal", goal) for goal in several]
    chosen_sampler, chosen_pruner = parse_sampler(sampler), parse_pruner(pruner)
    if len(checked) > 1 and chosen_pruner.word != "none":
        raise UsageError(
            f"--pruner {chosen_pruner} cannot compare trials of {len(checked)} objectives.",
            "Leave the pruner out, or choose one objective.",
        )
    check_installed(chosen_sampler)
    check_installed(chosen_pruner)
    if chosen_sampler.method.unpickles:
        check(path, "The study's journal")

    from hpctf.tuning.optuna_search import Search

    return Search(path, space, checked, chosen_sampler, chosen_pruner, seed, name)


def check_installed(chosen: Chosen) -> None:
    """Raise `UsageError` if Optuna, or what a sampler or pruner needs besides, is not installed."""
    _check_installed("optuna", "Searching needs Optuna", "hpctf[tune]")
    if chosen.method.needs is not None:
        package, extra = chosen.method.needs
        _check_installed(package, f"The sampler {chosen.word} needs {package}", extra)


def _check_installed(package: str, sentence: str, extra: str) -> None:
    from importlib.util import find_spec

    try:
        is_there = find_spec(package) is not None
    except ValueError:
        is_there = False
    if not is_there:
        raise UsageError(f"{sentence}, which is not installed.", f"pip install '{extra}'")
