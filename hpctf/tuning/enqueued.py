"""Trials that come first, with parameters of a person's own."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpctf.errors import UsageError, did_you_mean, shown
from hpctf.tuning.distributions import Expression

ENQUEUE = "enqueue"
"""The property of every sampling that has the first trials' parameters."""


def check_enqueued(enqueued: Any, space: Mapping[str, Expression]) -> None:
    """Raise `UsageError` unless this is a list of parameters of a space, with their values."""
    if not isinstance(enqueued, list) or not all(isinstance(one, dict) for one in enqueued):
        raise UsageError(
            f"enqueue is {shown(enqueued)}, but must be a list of parameters with their values.",
            'Use [{"lr": 0.01, "batch": 32}].',
        )
    for name in [name for one in enqueued for name in one]:
        if name not in space:
            near = did_you_mean(name, list(space))
            raise UsageError(
                f"enqueue has {shown(name)}, which is not a parameter.{near}",
                "Name a parameter of the space.",
            )
