"""Whether a trial stops early: a policy applied to what all trials have logged.

The rules are those that Azure ML documents for its SDK v1 (``azureml.train.hyperdrive.policy`` and
"Tune hyperparameters for your model"). What it leaves open is decided here so, for all policies:

- All trials that have logged a finite number take part, running and ended ones, each with its
  first n values, or as many as it has: a young trial is never compared with the later values of an
  older one.
- To minimise is the mirror image of to maximise.
- A value that is not finite counts as an interval, and is worse than every number. A trial of which
  no value is finite stops as soon as another one has a number.
- A tie is never worse.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal

from hpctf.tuning.histories import ARITHMETIC, Histories, Trial
from hpctf.tuning.policies import (
    BanditPolicy,
    EarlyTerminationPolicy,
    MedianStoppingPolicy,
    TruncationSelectionPolicy,
)

_SIGNIFICANT = Decimal("1e-30")
"""Averages and medians are rounded in their 50th digit; what differs less than this is equal."""


@dataclass(frozen=True)
class Verdict:
    """What a policy says of a trial.

    Parameters
    ----------
    stop
        Whether the trial stops.
    interval
        The trial's value, counted from 1, that was looked at.
    reason
        The rule and the numbers; empty where the policy did not apply.
    refused
        Whether the policy cannot be applied to these values at all: the person must choose another.
    numbers
        What was compared, for a record.
    """

    stop: bool
    interval: int
    reason: str = ""
    refused: bool = False
    numbers: dict[str, float] = field(default_factory=dict)


def judge(
    policy: EarlyTerminationPolicy,
    histories: Histories,
    trial: Trial,
    interval: int | None = None,
) -> Verdict:
    """Return whether a trial stops early.

    Parameters
    ----------
    interval
        Which of the trial's values to look at, counted from 1; by default its latest. Whoever reads
        several values at once calls it for each, in order.
    """
    at = histories.length(trial) if interval is None else interval
    if not 0 < at <= histories.length(trial) or not policy.applies_at(at):
        return Verdict(False, at)
    leader = histories.leader(at)
    if leader is None:
        return Verdict(False, at, f"{policy.word}: no trial has logged a finite number yet")
    best = histories.best(trial, at)
    if best is None:
        return _stopped(
            policy,
            at,
            f"none of its {at} values is a finite number, but trial {leader[1]} has "
            f"{_text(leader[0], histories)}",
            {"best_of_all": _plain(leader[0], histories)},
        )
    if isinstance(policy, BanditPolicy):
        return _bandit(policy, histories, at, best, leader)
    if isinstance(policy, MedianStoppingPolicy):
        return _median(policy, histories, at, best)
    if isinstance(policy, TruncationSelectionPolicy):
        return _truncation(policy, histories, at, best)
    raise TypeError(f"no rule for {policy!r}")


def _bandit(
    policy: BanditPolicy,
    histories: Histories,
    at: int,
    best: Decimal,
    leader: tuple[Decimal, Trial],
) -> Verdict:
    most, whose = leader
    if policy.slack_factor is not None:
        if histories.not_positive is not None:
            other, value = histories.not_positive
            return Verdict(
                False,
                at,
                f"bandit: slack_factor is a ratio and needs a metric above 0, but trial {other} "
                f"logged {value:g}; no trial is stopped. Use slack_amount (amount=) instead",
                refused=True,
            )
        slack = ARITHMETIC.add(Decimal(1), Decimal(repr(policy.slack_factor)))
        # as documented: Y + Y * slack < X; to minimise, X + X * slack < Y
        if histories.goal.sign > 0:
            limit, is_worse = (
                ARITHMETIC.divide(most, slack),
                ARITHMETIC.multiply(best, slack) < most,
            )
            rule = f"{_text(most, histories)} / (1 + {policy.slack_factor:g})"
        else:
            limit = ARITHMETIC.multiply(most, slack)
            is_worse = best < limit
            rule = f"{_text(most, histories)} * (1 + {policy.slack_factor:g})"
    else:
        assert policy.slack_amount is not None
        limit = ARITHMETIC.subtract(most, Decimal(repr(policy.slack_amount)))
        is_worse = best < limit
        sign = "-" if histories.goal.sign > 0 else "+"
        rule = f"{_text(most, histories)} {sign} {policy.slack_amount:g}"
    numbers = {
        "best": _plain(best, histories),
        "limit": _plain(limit, histories),
        "best_of_all": _plain(most, histories),
    }
    if not is_worse:
        return _kept(policy, histories, at, best, limit, numbers)
    compared = _compared(best, limit, histories)
    return _stopped(
        policy, at, f"best {compared} = {rule}, where trial {whose} is the best of all", numbers
    )


def _median(policy: MedianStoppingPolicy, histories: Histories, at: int, best: Decimal) -> Verdict:
    found = histories.median_mean(at)
    assert found is not None, "the trial itself has an average"
    median, count = found
    numbers = {
        "best": _plain(best, histories),
        "limit": _plain(median, histories),
        "trials": float(count),
    }
    gap = ARITHMETIC.subtract(median, best)
    if gap <= ARITHMETIC.multiply(_SIGNIFICANT, max(abs(median), abs(best))):
        return _kept(policy, histories, at, best, median, numbers)
    compared = _compared(best, median, histories)
    return _stopped(
        policy,
        at,
        f"best {compared}, the median of the running averages of {count} trials",
        numbers,
    )


def _truncation(
    policy: TruncationSelectionPolicy, histories: Histories, at: int, best: Decimal
) -> Verdict:
    not_better, count = histories.standing(best, at)
    stopping = count * policy.truncation_percentage // 100
    numbers = {
        "best": _plain(best, histories),
        "trials": float(count),
        "not_better": float(not_better),
        "stopping": float(stopping),
    }
    where = f"best {_text(best, histories)} is number {count - not_better + 1} of {count} trials"
    share = f"{policy.truncation_percentage} % of {count} is {stopping}"
    if not_better > stopping:
        return Verdict(False, at, f"{policy.word}: {where}; {share}", numbers=numbers)
    return _stopped(policy, at, f"{where}, among the worst {stopping} ({share})", numbers)


def _stopped(
    policy: EarlyTerminationPolicy, at: int, words: str, numbers: dict[str, float]
) -> Verdict:
    reason = f"stopped early at value {at}: {policy.word}: {words}"
    return Verdict(True, at, reason, numbers=numbers)


def _kept(
    policy: EarlyTerminationPolicy,
    histories: Histories,
    at: int,
    best: Decimal,
    limit: Decimal,
    numbers: dict[str, float],
) -> Verdict:
    sign = "≥" if histories.goal.sign > 0 else "≤"
    words = f"best {_text(best, histories)} {sign} {_text(limit, histories)}"
    return Verdict(False, at, f"{policy.word}: {words}", numbers=numbers)


def _compared(best: Decimal, limit: Decimal, histories: Histories) -> str:
    """Return ``0.61 < 0.75``, with as many digits as tell the two apart."""
    sign = "<" if histories.goal.sign > 0 else ">"
    left, right = _text(best, histories), _text(limit, histories)
    if left == right:
        left, right = repr(_plain(best, histories)), repr(_plain(limit, histories))
    return f"{left} {sign} {right}"


def _plain(number: Decimal, histories: Histories) -> float:
    return float(number) * histories.goal.sign or 0.0


def _text(number: Decimal, histories: Histories) -> str:
    return f"{_plain(number, histories):.6g}"
