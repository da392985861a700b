"""What runs are chosen and sorted by, such as ``accuracy>0.9`` or ``tag:stage=final``."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from hpctf.client.hpctf.run_metrics import Last
from hpctf.errors import UnreadableRun, UsageError, shown
from hpctf.runs.status.listing import Listed
from hpctf.tracking.metrics import Reading

FIELDS = (
    "id",
    "experiment",
    "state",
    "backend",
    "site",
    "target",
    "user",
    "job_id",
    "exit_code",
    "ranks",
    "submitted",
    "ended",
)
"""What every run has; another name is a metric's."""

_OPERATORS: dict[str, Callable[[Any, Any], bool]] = {
    "<=": operator.le,
    ">=": operator.ge,
    "!=": operator.ne,
    "=": operator.eq,
    "<": operator.lt,
    ">": operator.gt,
}
_CONDITION = re.compile(r"\A\s*(?P<name>.+?)\s*(?P<sign><=|>=|!=|==|=|<|>)\s*(?P<value>.*?)\s*\Z")
_KINDS = ("metric", "tag", "property", "param")


@dataclass(frozen=True)
class Condition:
    """What a run has to fulfil.

    Parameters
    ----------
    name
        One of `FIELDS`, a metric, ``tag:KEY``, ``property:KEY``, ``param:NAME``, or ``metric:NAME``
        for a metric that is called as a field is.
    sign, value
        One of `_OPERATORS`, and what was written: compared as a number if both sides are numbers.
    """

    name: str
    sign: str
    value: str

    def takes(self, facts: Facts) -> bool:
        """Whether a run fulfils it; one that has no such value never does, but for ``!=``."""
        found = facts.value(self.name)
        if found is None:
            return self.sign == "!="
        there, wanted = _number(found), _number(self.value)
        if there is not None and wanted is not None:
            return bool(_OPERATORS[self.sign](there, wanted))
        return bool(_OPERATORS[self.sign](str(found).lower(), self.value.lower()))


class Facts:
    """What a run of a listing can be chosen and sorted by, read when it is requested."""

    def __init__(self, run: Listed) -> None:
        self.run = run
        self._reading = Reading(run.folder.path)

    @cached_property
    def metrics(self) -> dict[str, Last]:
        """The last value of each metric."""
        return self._reading.last_metrics()

    @cached_property
    def tags(self) -> dict[str, Any]:
        """The run's tags."""
        return self._reading.get_tags()

    @cached_property
    def parameters(self) -> dict[str, Any]:
        """What the training was called with."""
        try:
            parameters: dict[str, Any] = self.run.folder.read_record()["parameters"]
        except UnreadableRun:
            return {}
        return parameters

    def value(self, name: str) -> Any:
        """Return what a `Condition`'s name stands for, or None."""
        kind, colon, key = name.partition(":")
        if colon and kind in _KINDS:
            return self._of_kind(kind, key)
        if name in FIELDS:
            return self.run.details.get(name)
        return self._of_kind("metric", name)

    def _of_kind(self, kind: str, key: str) -> Any:
        if kind == "tag":
            return self.tags.get(key)
        if kind == "param":
            return self.parameters.get(key.lstrip("-"))
        if kind == "property":
            return self._reading.get_properties().get(key)
        return self.metrics[key].value if key in self.metrics else None


def parse_condition(text: str) -> Condition:
    """Return the condition that ``NAME=VALUE``, ``NAME>VALUE`` and so on say.

    Raises
    ------
    UsageError
        The text is no such thing.
    """
    match = _CONDITION.match(text)
    if not match or not match["value"]:
        raise UsageError(
            f"Filter {shown(text)} is not of the form NAME=VALUE, NAME!=VALUE, NAME<VALUE, "
            "NAME<=VALUE, NAME>VALUE or NAME>=VALUE.",
            "For example: --filter 'accuracy>0.9' --filter tag:stage=final --filter param:lr=0.1",
        )
    return Condition(match["name"], "=" if match["sign"] == "==" else match["sign"], match["value"])


def sorted_by(facts: list[Facts], name: str, ascending: bool) -> list[Facts]:
    """Return runs by a value, the largest first unless `ascending`; those without it are last."""

    def key(one: Facts) -> tuple[int, float, str]:
        value = one.value(name)
        number = _number(value)
        if number is not None and not math.isnan(number):
            return 0, number if ascending else -number, ""
        return (1, 0.0, str(value)) if isinstance(value, str) else (2, 0.0, "")

    return sorted(facts, key=key)


def _number(value: Any) -> float | None:
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        return None
