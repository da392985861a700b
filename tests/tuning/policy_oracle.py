"""Azure ML's policies again, from their documentation, in the plainest way: the tests' oracle.

Nothing here is taken from `hpctf.tuning`, nor shaped like it: each answer is worked out from the
whole list of logs, in fractions, with maximising and minimising written out side by side.

azureml.train.hyperdrive.policy says:

- Bandit: "compares the value (Y + Y * 0.2) to 0.8, and if smaller, cancels the run"; "any run with
  an AUC less than 0.6 (0.8 - 0.2) after 100 iterations will be terminated".
- Median: "a run will be canceled at interval N if its best primary metric reported up to interval N
  is worse than the median of the running averages for intervals 1:N across all runs".
- Truncation: "periodically cancels the given percentage of runs that rank the lowest"; "when
  evaluating a run at a interval N, its performance is only compared with the performance of other
  runs up to interval N".
- all: "each time the training script logs the primary metric counts as one interval"; "the policy
  applies every multiple of evaluation_interval that is greater than or equal to delay_evaluation".
"""

from __future__ import annotations

import math
from fractions import Fraction
from typing import NamedTuple


class Log(NamedTuple):
    trial: int
    step: int | None
    value: float


class Rule(NamedTuple):
    kind: str
    slack_factor: float | None = None
    slack_amount: float | None = None
    percentage: int | None = None
    evaluation_interval: int = 1
    delay_evaluation: int = 0


def exact(value: float) -> Fraction:
    """The number as a person reads it: 0.1 is one tenth."""
    return Fraction(repr(value))


def curve_of(trial: int, logs: list[Log]) -> list[float]:
    """The trial's values in order; of a step that is there twice the first."""
    curve = []
    steps = []
    for log in logs:
        if log.trial == trial and (log.step is None or log.step not in steps):
            curve.append(log.value)
            steps.append(log.step)
    return curve


def verdict(rule: Rule, minimize: bool, logs: list[Log], trial: int) -> str:
    """``go on``, ``stop`` or ``refused``, after the trial's latest log."""
    interval = len(curve_of(trial, logs))
    if rule.kind == "none" or interval == 0:
        return "go on"
    if interval % rule.evaluation_interval != 0 or interval < rule.delay_evaluation:
        return "go on"

    seen: dict[int, list[Fraction]] = {}
    for other in {log.trial for log in logs}:
        first = curve_of(other, logs)[:interval]
        seen[other] = [exact(value) for value in first if math.isfinite(value)]
    everybody = [numbers for numbers in seen.values() if numbers]
    if not everybody:
        return "go on"
    if not seen[trial]:
        return "stop"  # nothing but NaN is worse than any number
    mine = min(seen[trial]) if minimize else max(seen[trial])

    if rule.kind == "bandit":
        top = min(map(min, everybody)) if minimize else max(map(max, everybody))
        if rule.slack_factor is not None:
            if any(math.isfinite(log.value) and log.value <= 0 for log in kept(logs)):
                return "refused"
            slack = exact(rule.slack_factor)
            if minimize:
                return "stop" if mine > top + top * slack else "go on"
            return "stop" if mine + mine * slack < top else "go on"
        assert rule.slack_amount is not None
        amount = exact(rule.slack_amount)
        if minimize:
            return "stop" if mine > top + amount else "go on"
        return "stop" if mine < top - amount else "go on"

    if rule.kind == "median":
        averages = sorted(sum(numbers) / len(numbers) for numbers in everybody)
        upper = averages[len(averages) // 2]
        lower = averages[(len(averages) - 1) // 2]
        median = (lower + upper) / 2
        if minimize:
            return "stop" if mine > median else "go on"
        return "stop" if mine < median else "go on"

    assert rule.kind == "truncation" and rule.percentage is not None
    bests = [min(numbers) if minimize else max(numbers) for numbers in everybody]
    how_many_stop = math.floor(Fraction(len(bests) * rule.percentage, 100))
    no_better = [best for best in bests if (best >= mine if minimize else best <= mine)]
    return "stop" if len(no_better) <= how_many_stop else "go on"


def kept(logs: list[Log]) -> list[Log]:
    """All logs but those that repeat a step of their trial."""
    steps = set()
    kept = []
    for log in logs:
        if log.step is None or (log.trial, log.step) not in steps:
            kept.append(log)
        steps.add((log.trial, log.step))
    return kept
