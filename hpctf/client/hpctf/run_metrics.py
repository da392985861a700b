"""What a run has tracked, read from its folder: by its own training, and from the login side.

A rank writes a journal of its own (`journal`). Of a name that several ranks have logged, the first
rank's values are given unless another one is requested.
"""

import json
import os
import re
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Tuple

from .journal_reader import Journal, last_of, read_file
from .series import Series
from .within import open_file

JOURNALS = "metrics"
CHILDREN = "children"
SUBMITTER = "submitter"
"""Journal of the tags that come from the login side."""

Labels = Dict[str, Tuple[Any, float]]
"""Tags or properties: a value and when it was given, in seconds since the epoch."""

_FILE = re.compile(r"^(?P<rank>(?P<role>[a-z]+)(-(?P<index>\d+))?)(\.(?P<number>\d+))?\.jsonl$")
_ROLES = ("chief", "worker", "ps")


class Last(NamedTuple):
    """The last value of a name: what was logged, for which step, when (seconds since the epoch)."""

    value: Any
    step: Optional[int]
    time: float


class Tracked:
    """The journals of a run or of a child run, read anew from its folder by each call."""

    def __init__(self, folder: str) -> None:
        self.folder = os.fspath(folder)

    def ranks(self) -> List[str]:
        """Return the ranks that have journals, ``chief-0`` and so on, in rank order."""
        return [rank for rank in self._files() if rank != SUBMITTER]

    def journals(self, rank: Optional[str] = None) -> Dict[str, Journal]:
        """Return what each rank has written, or one alone, in rank order."""
        return {
            name: _joined([read_file(path) for path in paths])
            for name, paths in self._files().items()
            if name != SUBMITTER and rank in (None, name)
        }

    def series(self, rank: Optional[str] = None) -> Dict[str, Series]:
        """Return all that was logged, by name: of the first rank that logged it, or of `rank`."""
        return first_series(self.journals(rank).values())

    def metrics(self, name: Optional[str] = None, rank: Optional[str] = None) -> Dict[str, Any]:
        """Return the values by name, in the forms of Azure ML's ``get_metrics``: see
        `Series.metric`."""
        return {
            known: series.metric()
            for known, series in self.series(rank).items()
            if name in (None, known)
        }

    def last(self, rank: Optional[str] = None) -> Dict[str, Last]:
        """Return the last scalar of each name; only the end of each file is read."""
        found: Dict[str, Last] = {}
        for journal in self._ends(rank):
            for name, series in journal.series.items():
                if series.kind == "value":
                    found.setdefault(
                        name, Last(series.values[-1], series.steps[-1], series.times[-1])
                    )
        return found

    def progress(self) -> Optional[Dict[str, Any]]:
        """Return how far the first rank is that has said so, such as
        ``{"epoch": 3, "epochs": 12, "time": ...}``; None if nobody has."""
        ends = (journal.progress for journal in self._ends(None))
        return next((progress for progress in ends if progress), None)

    def tags(self) -> Dict[str, Any]:
        """Return the run's tags, the latest value of each."""
        return {key: value for key, (value, _) in self.labels("tags").items()}

    def properties(self) -> Dict[str, Any]:
        """Return the run's properties; one that is set stays as it is."""
        return {key: value for key, (value, _) in self.labels("properties").items()}

    def labels(self, what: str, late: Optional[Labels] = None) -> Labels:
        """Return (value, time) of each of the ``tags``, the latest, or ``properties``, the first.

        `late` is what is known of them already: only the login side's journal is read besides.
        """
        sign = 1 if what == "tags" else -1
        found = dict(late or {})
        for journal in self._ends(None if late is None else SUBMITTER):
            for key, (value, at) in getattr(journal, what).items():
                if key not in found or sign * at >= sign * found[key][1]:
                    found[key] = (value, at)
        return found

    def ended(self) -> Optional[Dict[str, Any]]:
        """Return how a child run has said that it ended: ``{"state": ..., "time": ...}``."""
        ends = [journal.ended for journal in self._ends(None) if journal.ended]
        failed = [end for end in ends if end.get("state") == "Failed"]
        return next(iter(failed or ends), None)

    def children(self) -> List["Child"]:
        """Return the child runs, in the order in which they were made."""
        top = os.path.join(self.folder, CHILDREN)
        try:
            names = os.listdir(top)
        except FileNotFoundError:
            return []
        found = [Child(os.path.join(top, name)) for name in names]
        return sorted((child for child in found if child.about), key=lambda child: child.created)

    def _files(self) -> Dict[str, List[str]]:
        """Return the journals' paths by rank, in rank order, the submitter's last."""
        folder = os.path.join(self.folder, JOURNALS)
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return {}
        matches = sorted(filter(None, map(_FILE.match, names)), key=_order)
        files: Dict[str, List[str]] = {}
        for match in matches:
            files.setdefault(match.group("rank"), []).append(os.path.join(folder, match.group()))
        return files

    def _ends(self, rank: Optional[str]) -> List[Journal]:
        files = self._files().items()
        return [last_of(path) for name, paths in files if rank in (None, name) for path in paths]


class Child(Tracked):
    """A child run, as it lies in its parent's folder."""

    def __init__(self, folder: str) -> None:
        super().__init__(folder)
        try:
            with open_file(os.path.join(folder, "child.json")) as stream:
                self.about: Dict[str, Any] = json.load(stream)
        except (OSError, ValueError):
            self.about = {}  # not whole yet

    @property
    def id(self) -> str:
        return str(self.about.get("id") or os.path.basename(self.folder))

    @property
    def name(self) -> str:
        return str(self.about.get("name") or self.id)

    @property
    def created(self) -> float:
        """Seconds since the epoch."""
        return float(self.about.get("created") or 0)


def first_series(journals: Iterable[Journal]) -> Dict[str, Series]:
    """Return what was logged under each name in the first of some journals that has it."""
    found: Dict[str, Series] = {}
    for journal in journals:
        for name, series in journal.series.items():
            found.setdefault(name, series)
    return found


def _order(match: Any) -> Any:
    role, index = match.group("role"), int(match.group("index") or 0)
    place = _ROLES.index(role) if role in _ROLES else len(_ROLES)
    return role == SUBMITTER, place, role, index, int(match.group("number") or 0)


def _joined(journals: List[Journal]) -> Journal:
    """Return several journals of one rank as one: the first that has a name has its values."""
    first = journals[0]
    for other in journals[1:]:
        for name, series in other.series.items():
            first.series.setdefault(name, series)
        first.lost += other.lost
    return first
