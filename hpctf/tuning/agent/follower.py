"""What a running trial logs of the primary metric: each look returns what is new."""

from __future__ import annotations

from hpctf.client.hpctf.series import Series
from hpctf.run_folder.layout import RunFolder
from hpctf.tracking.live import Live

Logged = tuple[int | None, float]
"""A step, and the value that was logged for it."""


class Follower:
    """Follows one start of a trial.

    Parameters
    ----------
    began
        When this start began, in seconds since the epoch.
    rank
        The rank that logs what counts: the first.
    """

    def __init__(self, trial: RunFolder, metric: str, began: float, rank: str = "worker-0") -> None:
        self._live = Live(trial.path, [rank])
        self._metric = metric
        self._began = began
        self._told = 0

    def missed_values(self, steps: set[int], count: int) -> list[Logged]:
        """Return what earlier starts have logged, and nobody has entered before their agent died.

        Parameters
        ----------
        steps
            Those that are known already.
        count
            How many values are known; those without a step are told by it.
        """
        series = self._series()
        if series is None:
            return []
        pairs = list(zip(series.steps, series.values, strict=True))
        if any(step is not None for step, _ in pairs):
            return [pair for pair in pairs if pair[0] is not None and pair[0] not in steps]
        return pairs[count:]

    def new_values(self) -> list[Logged]:
        """Return steps and values that this start has logged since the last call."""
        series = self._series()
        if series is None:
            return []
        times = series.times
        first = len(times)
        while first > 0 and times[first - 1] >= self._began:
            first -= 1
        fresh = first + self._told
        values = list(zip(series.steps[fresh:], series.values[fresh:], strict=True))
        self._told += len(values)
        return values

    def names(self) -> list[str]:
        """Return the names of all numbers that were logged."""
        return sorted(self._live.series())

    def _series(self) -> Series | None:
        self._live.look()
        found = self._live.scalars().get(self._metric)
        # TensorBoard's files are read whole, and so not each time
        return self._live.series().get(self._metric) if found is None else found


class JobFollower(Follower):
    """Follows a trial that is a job of its own, through all starts of that job.

    Parameters
    ----------
    steps, count
        Those whose values are known already, and how many values are: a driver that takes a trial
        over goes on where the one before it was.
    """

    def __init__(
        self, trial: RunFolder, metric: str, rank: str, steps: set[int], count: int
    ) -> None:
        super().__init__(trial, metric, 0.0, rank)
        self._steps = set(steps)
        self._count = count
        self._end: tuple[int, float] | None = None

    def new_values(self) -> list[Logged]:
        """Return steps and values that are not known yet."""
        series = self._series()
        if series is None or not series.values:
            return []
        end = len(series.values), series.times[-1]
        if end == self._end:
            return []
        self._end = end
        values = self.missed_values(self._steps, self._count)
        self._steps.update(step for step, _ in values if step is not None)
        self._count += len(values)
        return values
