"""Whether more of the primary metric is better, or less."""

from __future__ import annotations

import enum

from hpctf.errors import UsageError, shown


class PrimaryMetricGoal(enum.Enum):
    """What tuning does to the primary metric, as in Azure ML."""

    MAXIMIZE = "MAXIMIZE"
    MINIMIZE = "MINIMIZE"

    @property
    def sign(self) -> int:
        """What to multiply a value by so that more is better."""
        return 1 if self is PrimaryMetricGoal.MAXIMIZE else -1

    @staticmethod
    def from_str(goal: str) -> PrimaryMetricGoal:
        """Return the goal of ``maximize`` or ``minimize``, in letters of any case."""
        try:
            return PrimaryMetricGoal[str(goal).upper()]
        except KeyError:
            raise UsageError(
                f"The goal is {shown(goal)}, but must be maximize or minimize.",
            ) from None


def goal_of(parameter: str, goal: PrimaryMetricGoal | str) -> PrimaryMetricGoal:
    """Return a goal that may be a word."""
    if isinstance(goal, PrimaryMetricGoal):
        return goal
    if isinstance(goal, str):
        return PrimaryMetricGoal.from_str(goal)
    raise UsageError(
        f"{parameter} is {shown(goal)}, but must be a goal.",
        "Use PrimaryMetricGoal.MAXIMIZE or PrimaryMetricGoal.MINIMIZE.",
    )
