"""Which runs are meant: by name, experiment, state, age and size."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

from hpctf.run_folder.layout import find_runs
from hpctf.runs.housekeeping.disk_usage import sizes_of
from hpctf.runs.search.filters import Condition, Facts
from hpctf.runs.status.listing import Listed, list_runs, listed


@dataclass(frozen=True)
class Choice:
    """What chosen runs have in common; what is empty or None allows all.

    Parameters
    ----------
    names
        Ids, unique prefixes of them, or ``@last``.
    states
        Any of these.
    older_than
        Seconds since they ended, or since they were submitted if that is not known.
    larger_than
        Bytes on the disk.
    conditions
        All of these: see `hpctf.runs.search.filters`.
    """

    names: tuple[str, ...] = ()
    experiment: str | None = None
    states: tuple[str, ...] = ()
    older_than: float | None = None
    larger_than: int | None = None
    conditions: tuple[Condition, ...] = ()

    @property
    def all(self) -> bool:
        """Whether it leaves no run out."""
        return self == Choice()

    def takes(self, run: Listed) -> bool:
        """Whether a run is meant, but for its name."""
        facts = Facts(run)
        return (
            self.experiment in (None, run.details["experiment"])
            and (not self.states or run.state in self.states)
            and (self.older_than is None or time.time() - run.since > self.older_than)
            and (self.larger_than is None or sizes_of(run.folder.path).total > self.larger_than)
            and all(condition.takes(facts) for condition in self.conditions)
        )


def choose(root: Path, choice: Choice, limit: int | None = None) -> list[Listed]:
    """Return the runs under a root that are meant, the latest first, or as they are named.

    Raises
    ------
    RunNotFound
        A name is no run's, or that of several.
    """
    if choice.names:
        found = listed(dict.fromkeys(find_runs(root, choice.names)))
    elif choice == Choice(experiment=choice.experiment, states=choice.states):
        return list_runs(root, choice.experiment, choice.states, limit)
    else:
        found = list_runs(root, choice.experiment, choice.states)
    return [run for run in found if choice.takes(run)][:limit]
