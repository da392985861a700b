"""What all trials of a study have logged of the primary metric, ready for a policy's questions.

Every value is kept as the decimal number that Python writes for it, and all arithmetic is decimal:
a trial that lies exactly on a limit, such as 0.8 - 0.2, must not fall on one side of it by the
rounding of binary fractions.
"""

from __future__ import annotations

import math
from bisect import bisect_right, insort
from collections.abc import Hashable, Iterator
from dataclasses import dataclass, field
from decimal import ROUND_HALF_EVEN, Context, Decimal

from hpctf.tuning.goals import PrimaryMetricGoal

ARITHMETIC = Context(prec=50, rounding=ROUND_HALF_EVEN, traps=[])
"""Products and sums of floats' decimals are exact in it, unless they lie 30 powers of ten apart."""

Trial = Hashable
"""What names a trial: its number."""


@dataclass
class Curve:
    """One trial's values, times the goal's sign: more is better.

    Parameters
    ----------
    values
        Every value that was logged, in order; None for one that is not finite.
    bests, means
        Of the first n values, at place n - 1; None as long as none of them is finite.
    """

    values: list[Decimal | None] = field(default_factory=list)
    bests: list[Decimal | None] = field(default_factory=list)
    means: list[Decimal | None] = field(default_factory=list)
    steps: set[int] = field(default_factory=set)
    total: Decimal = Decimal(0)
    finite: int = 0

    def append(self, value: Decimal | None) -> None:
        """Add the next value."""
        best = self.bests[-1] if self.bests else None
        mean = self.means[-1] if self.means else None
        if value is not None:
            self.finite += 1
            self.total = ARITHMETIC.add(self.total, value)
            best = value if best is None else max(best, value)
            mean = ARITHMETIC.divide(self.total, Decimal(self.finite))
        self.values.append(value)
        self.bests.append(best)
        self.means.append(mean)


@dataclass
class _Ranking:
    """One number for each trial and interval, sorted at each interval."""

    columns: list[list[Decimal]] = field(default_factory=list)
    lasts: list[dict[Trial, Decimal]] = field(default_factory=lambda: [{}])
    """By the length of their curves, the trials' latest numbers."""

    def add(self, trial: Trial, length: int, number: Decimal | None) -> None:
        """Enter a trial's number at interval `length`, its latest."""
        if len(self.columns) < length:
            self.columns.append([])
            self.lasts.append({})
        self.lasts[length - 1].pop(trial, None)
        if number is not None:
            insort(self.columns[length - 1], number)
            self.lasts[length][trial] = number

    def of_longer(self, interval: int) -> list[Decimal]:
        """Return the sorted numbers of the trials that have reached an interval."""
        return self.columns[interval - 1] if interval <= len(self.columns) else []

    def of_shorter(self, interval: int) -> Iterator[Decimal]:
        """Yield the latest numbers of the trials that have not reached it."""
        for lasts in self.lasts[:interval]:
            yield from lasts.values()


class Histories:
    """The primary metric of all trials of a study.

    Parameters
    ----------
    goal
        Whether more is better.
    """

    def __init__(self, goal: PrimaryMetricGoal) -> None:
        self.goal = goal
        self.curves: dict[Trial, Curve] = {}
        self.not_positive: tuple[Trial, float] | None = None
        """The first value that was not above 0, with its trial: a ratio means nothing from then."""
        self._bests = _Ranking()
        self._means = _Ranking()
        self._leaders: list[tuple[Decimal, Trial] | None] = []

    def add(self, trial: Trial, value: float, step: int | None = None) -> int | None:
        """Enter a value that a trial has logged, and return its interval: 1 for the first.

        Parameters
        ----------
        step
            The step that it was logged for. A step that is there already keeps its first value, and
            None is returned: a trial that was requeued repeats the steps after its checkpoint.
            Values without a step all count.
        """
        curve = self.curves.setdefault(trial, Curve())
        if step is not None:
            if step in curve.steps:
                return None
            curve.steps.add(step)
        number = self._number(trial, value)
        curve.append(number)

        interval = len(curve.values)
        self._bests.add(trial, interval, curve.bests[-1])
        self._means.add(trial, interval, curve.means[-1])
        self._lead(interval, trial, number)
        return interval

    def length(self, trial: Trial) -> int:
        """Return how many values a trial has logged."""
        return len(self.curves[trial].values) if trial in self.curves else 0

    def values(self, trial: Trial) -> list[float]:
        """Return what a trial has logged, as it was; NaN for what was not finite."""
        curve = self.curves.get(trial)
        numbers = [] if curve is None else curve.values
        sign = self.goal.sign
        return [math.nan if value is None else sign * float(value) for value in numbers]

    def best(self, trial: Trial, interval: int) -> Decimal | None:
        """Return a trial's best of its first values; None if none of them is finite."""
        bests = self.curves[trial].bests[:interval]
        return bests[-1] if bests else None

    def leader(self, interval: int) -> tuple[Decimal, Trial] | None:
        """Return the best of all trials' first values, and whose it is."""
        leaders = self._leaders[:interval]
        return leaders[-1] if leaders else None

    def median_mean(self, interval: int) -> tuple[Decimal, int] | None:
        """Return the median of the averages of all trials' first values, and of how many."""
        longer, shorter = self._means.of_longer(interval), [*self._means.of_shorter(interval)]
        count = len(longer) + len(shorter)
        if not count:
            return None
        # the shorter curves' averages move the middle by as many places as there are, at most
        middle = count // 2
        first = max(0, middle - len(shorter) - 1)
        around = sorted(longer[first : middle + 1] + shorter)
        upper = around[middle - first]
        if count % 2:
            return upper, count
        both = ARITHMETIC.add(around[middle - first - 1], upper)
        return ARITHMETIC.divide(both, Decimal(2)), count

    def standing(self, best: Decimal, interval: int) -> tuple[int, int]:
        """Return how many trials' bests are no better than this one, and of how many."""
        longer = self._bests.of_longer(interval)
        shorter = list(self._bests.of_shorter(interval))
        not_better = bisect_right(longer, best) + sum(other <= best for other in shorter)
        return not_better, len(longer) + len(shorter)

    def _number(self, trial: Trial, value: float) -> Decimal | None:
        try:
            as_float = float(value)
        except OverflowError:  # a whole number beyond every float
            return None
        if not math.isfinite(as_float):
            return None
        if as_float <= 0 and self.not_positive is None:
            self.not_positive = (trial, as_float)
        number = Decimal(repr(as_float))
        return number if self.goal.sign > 0 else number.copy_negate()

    def _lead(self, interval: int, trial: Trial, number: Decimal | None) -> None:
        """Enter a value as the best of all up to its interval and after, as far as it is."""
        if len(self._leaders) < interval:
            self._leaders.append(self._leaders[-1] if self._leaders else None)
        if number is None:
            return
        for place in range(interval - 1, len(self._leaders)):
            leader = self._leaders[place]
            if leader is not None and leader[0] >= number:
                break
            self._leaders[place] = (number, trial)
