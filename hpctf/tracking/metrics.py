"""What a run and a child run tell of what they have logged."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from hpctf.client.hpctf.run_metrics import JOURNALS, SUBMITTER, Child, Labels, Last, Tracked
from hpctf.client.hpctf.values import scalar
from hpctf.common.files import append_record
from hpctf.common.secrets import public
from hpctf.errors import UsageError
from hpctf.tracking.last_values import Kept, keep, kept_of

if TYPE_CHECKING:
    from pandas import DataFrame

    from hpctf.client.hpctf.journal_reader import Journal
    from hpctf.client.hpctf.series import Series
    from hpctf.tracking.dataframes import Row


class Reading:
    """The part of a run or child run that reads what it has logged, and gives it tags."""

    def __init__(self, place: Path) -> None:
        self._tracked = Tracked(str(place))

    def get_metrics(
        self, name: str | None = None, recursive: bool = False, rank: str | None = None
    ) -> dict[str, Any]:
        """Return what was logged, by name, as Azure ML's ``get_metrics`` does.

        Parameters
        ----------
        name
            This metric alone.
        recursive
            Whether to look into the child runs, too. The answer is then by run's id, then by name,
            for each run that has logged something.
        rank
            Whose values, such as ``worker-1``; by default those of the first rank that logged the
            name.

        Returns
        -------
        dict
            By name one value, or the list of all that were logged; of lists one joined list; of
            rows and tables a mapping from column to values; of images their names among the run's
            files.
        """
        mine = _metrics(self.series(rank), name)
        if not recursive:
            return mine
        found = {self._folder.name: mine} if mine else {}
        for child in self._children():
            theirs = _metrics(Reading(Path(child.folder)).series(rank), name)
            if theirs:
                found[child.id] = theirs
        return found

    def series(self, rank: str | None = None) -> dict[str, Series]:
        """Return all that was logged by name, with steps and times.

        Scalars in TensorBoard's event files below ``./logs`` and ``./outputs`` are among them,
        unless one rank's alone are requested: files say nothing of ranks.
        """
        found = self._tracked.series(rank)
        return found if rank is not None else {**self.event_series(), **found}

    def journals(self, rank: str | None = None) -> dict[str, Journal]:
        """Return all that each rank has logged, or one alone, in rank order."""
        return self._tracked.journals(rank)

    def event_series(self) -> dict[str, Series]:
        """Return the scalars of TensorBoard's event files (`tensorboard_events`)."""
        from hpctf.tracking.tensorboard_events import event_series

        return event_series(self._folder)

    def last_metrics(self) -> dict[str, Last]:
        """Return each scalar's last value, its step and time.

        Of a run that is over one small file is read; else the ends of journals, and all of event
        files.
        """
        kept = kept_of(self._folder)
        return self._last_metrics() if kept is None else kept.metrics

    def _last_metrics(self) -> dict[str, Last]:
        of_events = {
            name: Last(series.values[-1], series.steps[-1], series.times[-1])
            for name, series in self.event_series().items()
        }
        return {**of_events, **self._tracked.last()}

    def rows(self, rank: str | None = None) -> list[Row]:
        """Return every value that was logged, as (name, step, value, time, rank), of all ranks or
        of one.

        Those without a step have their place among the name's values for it. The rank of what
        stands in TensorBoard's event files is empty.
        """
        every: list[tuple[str, Iterable[Series]]] = [
            (name, journal.series.values()) for name, journal in self.journals(rank).items()
        ]
        if rank is None:
            every.append(("", self.event_series().values()))
        return [
            (series.name, step, value, at, name)
            for name, found in every
            for series in found
            if series.kind == "value"
            for step, value, at in zip(series.axis(), series.values, series.times, strict=True)
        ]

    def to_pandas(self, rank: str | None = None) -> DataFrame:
        """Return every number that was logged as a pandas data frame.

        Its columns are ``name``, ``step``, ``value``, ``time`` (UTC) and ``rank``, of all ranks
        unless one is named.

        Raises
        ------
        UsageError
            pandas is not installed.
        """
        from hpctf.tracking.dataframes import frame_of

        return frame_of(self.rows(rank))

    def get_tags(self) -> dict[str, Any]:
        """Return the tags, the latest value of each."""
        return {key: value for key, (value, _) in self._labels("tags").items()}

    def get_properties(self) -> dict[str, Any]:
        """Return the properties."""
        return {key: value for key, (value, _) in self._labels("properties").items()}

    def tag(self, key: str, value: Any = None) -> None:
        """Give the run a tag, or a tag another value."""
        write_tags(self._folder, {key: value})

    def set_tags(self, tags: Mapping[str, Any]) -> None:
        """Give the run several tags."""
        write_tags(self._folder, tags)

    def add_properties(self, properties: Mapping[str, Any]) -> None:
        """Give the run properties, which never change once they are set."""
        write_tags(self._folder, properties, "property")

    def keep_last(self, attempt: int | None = None) -> None:
        """Keep the latest of all that was logged in one file, for when the run is over
        (`hpctf.tracking.last_values.keep`)."""
        labels = self._tracked.labels
        latest = Kept(self._last_metrics(), labels("tags"), labels("properties"))
        keep(self._folder, latest, attempt)

    def _labels(self, what: Literal["tags", "properties"]) -> Labels:
        kept = kept_of(self._folder)
        return self._tracked.labels(what, None if kept is None else getattr(kept, what))

    @property
    def _folder(self) -> Path:
        return Path(self._tracked.folder)

    def _children(self) -> list[Child]:
        return self._tracked.children()


def _metrics(series: Mapping[str, Series], name: str | None) -> dict[str, Any]:
    return {known: one.metric() for known, one in series.items() if name in (None, known)}


def checked_tags(tags: Mapping[str, Any], kind: str = "tag") -> dict[str, Any]:
    """Return tags or properties as JSON has them.

    Raises
    ------
    UsageError
        A value is no number, string, bool or None.
    """
    try:
        return {str(key): scalar(value, f"{kind} {key!r}") for key, value in tags.items()}
    except TypeError as error:
        raise UsageError(str(error)) from None


def write_tags(folder: Path, tags: Mapping[str, Any], kind: str = "tag") -> None:
    """Append tags or properties that come from the login side to a run's journals.

    Raises
    ------
    UsageError
        A value is no number, string, bool or None; nothing was written then.
    """
    path = folder / JOURNALS / f"{SUBMITTER}.jsonl"
    for key, value in checked_tags(tags, kind).items():
        value = public({key: value})[key]  # who may read the run reads its tags
        append_record(path, {kind: key, "value": value, "time": round(time.time(), 3)})
