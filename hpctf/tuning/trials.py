"""A study's trials, as those see them who run them, and spaces that are functions."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from hpctf.tuning.distributions import Expression

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
