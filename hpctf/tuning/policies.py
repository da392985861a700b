"""When a trial that does badly stops early: Azure ML's policies, as data.

Their constructors take Azure ML's arguments in Azure ML's order. `parse_policy` reads the words of
``--policy``, and `hpctf.tuning.judging` applies a policy to what trials have logged.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from hpctf.errors import UsageError, did_you_mean, shown


@dataclass(frozen=True)
class EarlyTerminationPolicy:
    """Base of the policies.

    An interval is a log of the primary metric, be it a step, an epoch or anything else: a trial's
    n-th value is its interval n. A policy applies at every multiple of ``evaluation_interval`` that
    is ``delay_evaluation`` or more.
    """

    POLICY_NAME: ClassVar[str] = ""
    word: ClassVar[str] = ""

    def applies_at(self, interval: int) -> bool:
        """Whether the policy is applied to a trial that has logged so many values."""
        return False

    def to_json(self) -> dict[str, Any]:
        """Return the policy as Azure ML describes it."""
        return {"name": self.POLICY_NAME}

    def __str__(self) -> str:
        """Return the text that `parse_policy` reads."""
        return self.word


@dataclass(frozen=True)
class NoTerminationPolicy(EarlyTerminationPolicy):
    """No trial stops early."""

    POLICY_NAME: ClassVar[str] = "Default"
    word: ClassVar[str] = "none"


@dataclass(frozen=True)
class _Periodic(EarlyTerminationPolicy):
    """What the policies have in common that stop anything."""

    def applies_at(self, interval: int) -> bool:
        every, delay = self._schedule()
        return interval > 0 and interval % every == 0 and interval >= delay

    def to_json(self) -> dict[str, Any]:
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        properties = {name: value for name, value in given.items() if value is not None}
        return {**super().to_json(), "properties": properties}

    def _schedule(self) -> tuple[int, int]:
        every: int = self.evaluation_interval  # type: ignore[attr-defined]
        delay: int = self.delay_evaluation  # type: ignore[attr-defined]
        return every, delay

    def _check_schedule(self) -> None:
        every, delay = self._schedule()
        _check_whole(self, "evaluation_interval", every, least=1)
        _check_whole(self, "delay_evaluation", delay, least=0)

    def _words(self, *first: str) -> str:
        every, delay = self._schedule()
        words = [*first]
        if every != 1:
            words.append(f"interval={every}")
        if delay:
            words.append(f"delay={delay}")
        return ":".join([self.word, ",".join(words)] if words else [self.word])


@dataclass(frozen=True)
class BanditPolicy(_Periodic):
    """Stop a trial whose best is farther from the best of all than the slack allows.

    Of a trial's best Y and the best X of all trials, both up to the same interval, the trial stops
    if Y + Y * slack_factor < X, or Y < X - slack_amount. To minimise, it stops if
    Y > X + X * slack_factor, or Y > X + slack_amount.

    Parameters
    ----------
    evaluation_interval
        The policy applies at every so-manieth value.
    slack_factor
        The slack as a ratio: above 0, and for metrics above 0 only. Give this or `slack_amount`.
    slack_amount
        The slack in the metric's own unit; 0 allows none.
    delay_evaluation
        The policy does not apply to a trial with fewer values than this.
    """

    POLICY_NAME: ClassVar[str] = "Bandit"
    word: ClassVar[str] = "bandit"
    evaluation_interval: int = 1
    slack_factor: float | None = None
    slack_amount: float | None = None
    delay_evaluation: int = 0

    def __post_init__(self) -> None:
        factor, amount = self.slack_factor, self.slack_amount
        for name, value in (("slack_factor", factor), ("slack_amount", amount)):
            _check_slack(name, value)
        if factor and amount:
            raise UsageError(
                f"BanditPolicy has slack_factor {factor} and slack_amount {amount}, but takes one.",
                "Give slack_factor (a ratio) or slack_amount (in the metric's unit).",
            )
        if not factor and amount is None:
            what = "slack_factor 0" if factor == 0 else "neither slack_factor nor slack_amount"
            raise UsageError(
                f"BanditPolicy has {what}, but needs a slack.",
                "Give slack_factor=0.1 or, to allow no slack at all, slack_amount=0.",
            )
        # Azure ML drops whichever of the two is 0 beside the other
        object.__setattr__(self, "slack_factor", factor or None)
        object.__setattr__(self, "slack_amount", None if factor else amount)
        self._check_schedule()

    def __str__(self) -> str:
        if self.slack_factor is not None:
            return self._words(f"slack={self.slack_factor!r}")
        return self._words(f"amount={self.slack_amount!r}")


@dataclass(frozen=True)
class MedianStoppingPolicy(_Periodic):
    """Stop a trial whose best is worse than the median of all trials' running averages.

    At interval n the trial's best of its first n values is compared with the median, over all
    trials that have logged a number, of the average of each one's first n values (or of as many as
    it has).
    """

    POLICY_NAME: ClassVar[str] = "MedianStopping"
    word: ClassVar[str] = "median"
    evaluation_interval: int = 1
    delay_evaluation: int = 0

    def __post_init__(self) -> None:
        self._check_schedule()

    def __str__(self) -> str:
        return self._words()


@dataclass(frozen=True)
class TruncationSelectionPolicy(_Periodic):
    """Stop a trial that is among the given percentage of trials that do worst.

    At interval n all trials that have logged a number are ranked by the best of their first n
    values, also those that have ended. Of N trials the worst ``N * truncation_percentage // 100``
    stop; a trial that ties with a better one stays.
    """

    POLICY_NAME: ClassVar[str] = "TruncationSelection"
    word: ClassVar[str] = "truncation"
    truncation_percentage: int
    evaluation_interval: int = 1
    delay_evaluation: int = 0

    def __post_init__(self) -> None:
        _check_whole(self, "truncation_percentage", self.truncation_percentage, least=1, most=99)
        self._check_schedule()

    def to_json(self) -> dict[str, Any]:
        document = super().to_json()
        document["properties"]["exclude_finished_jobs"] = False
        return document

    def __str__(self) -> str:
        return self._words(str(self.truncation_percentage))


POLICIES: tuple[type[EarlyTerminationPolicy], ...] = (
    BanditPolicy,
    MedianStoppingPolicy,
    TruncationSelectionPolicy,
    NoTerminationPolicy,
)

_KEYS = {
    "slack": "slack_factor",
    "amount": "slack_amount",
    "interval": "evaluation_interval",
    "delay": "delay_evaluation",
    "percentage": "truncation_percentage",
}
"""The short names of arguments in the words of ``--policy``."""


def parse_policy(text: str) -> EarlyTerminationPolicy:
    """Return the policy of ``bandit:slack=0.1,interval=2,delay=5``, ``median:delay=5``,
    ``truncation:20`` or ``none``.

    ``slack`` is the ratio, ``amount`` the slack in the metric's unit. Azure ML's names of the
    arguments are taken, too.

    Raises
    ------
    UsageError
        The text names no policy, or an argument is unknown, missing or wrong.
    """
    word, _, rest = text.strip().partition(":")
    policies = {policy.word: policy for policy in POLICIES}
    policy = policies.get(word.strip().lower())
    if policy is None:
        raise UsageError(
            f"--policy {shown(text)} names no policy.{did_you_mean(word, [*policies])}",
            "Use bandit:slack=0.1, median, truncation:20 or none.",
        )
    allowed = {field.name for field in fields(policy)}
    arguments: dict[str, Any] = {}
    for part in filter(None, rest.split(",")):
        key, equals, value = part.partition("=")
        if not equals and policy is TruncationSelectionPolicy:
            key, value = "percentage", part
        name = _KEYS.get(key.strip(), key.strip())
        if name not in allowed:
            short = [key for key, long in _KEYS.items() if long in allowed]
            takes = f"{policy.word} takes {', '.join(short)}." if short else "It takes none."
            raise UsageError(
                f"--policy {shown(text)}: {shown(part)} is not an argument of {policy.word}.", takes
            )
        if name in arguments:
            raise UsageError(f"--policy {shown(text)} gives {name} twice.", "Give it once.")
        arguments[name] = _number_of(value, name)
    if policy is TruncationSelectionPolicy and "truncation_percentage" not in arguments:
        raise UsageError(
            f"--policy {shown(text)} gives no percentage.", "Write, for example, truncation:20."
        )
    return policy(**arguments)


def policy_from_json(document: Mapping[str, Any]) -> EarlyTerminationPolicy:
    """Return the policy that `EarlyTerminationPolicy.to_json` describes."""
    names = {policy.POLICY_NAME.lower(): policy for policy in POLICIES}
    policy = names.get(str(document.get("name")).lower())
    if policy is None:
        raise UsageError(
            f"{shown(document.get('name'))} is not a policy of Azure ML's.",
            "Use BanditPolicy, MedianStoppingPolicy, TruncationSelectionPolicy or "
            "NoTerminationPolicy.",
        )
    make: Callable[..., EarlyTerminationPolicy] = policy
    allowed = {field.name for field in fields(policy)}
    given: Mapping[str, Any] = document.get("properties") or {}
    return make(**{name: value for name, value in given.items() if name in allowed})


def _number_of(text: str, name: str) -> float:
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        raise UsageError(f"--policy: {name} is {shown(text)}, but must be a number.") from None


def _check_slack(name: str, value: Any) -> None:
    if value is None:
        return
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or value < 0:
        raise UsageError(f"BanditPolicy: {name} is {shown(value)}, but must be 0 or more.")


def _check_whole(
    policy: EarlyTerminationPolicy, name: str, value: Any, least: int, most: int | None = None
) -> None:
    if type(value) is int and value >= least and (most is None or value <= most):
        return
    rule = f"{least} or more" if most is None else f"from {least} to {most}"
    raise UsageError(
        f"{type(policy).__name__}: {name} is {shown(value)}, but must be a whole number {rule}."
    )
