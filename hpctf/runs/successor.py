"""Submitting a run that follows another one (`hpctf.Run.then`)."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from hpctf.estimator.earlier_runs import Condition
from hpctf.runs.site_choice import ChosenSite
from hpctf.runs.submitting import Labels, submitter
from hpctf.tracking.metrics import checked_tags

if TYPE_CHECKING:
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.run_folder.layout import RunFolder
    from hpctf.site.model import Site


@dataclass(frozen=True)
class Successor:
    """Where a run that follows another one is submitted to; None: where that one was."""

    experiment: str | None = None
    site: Site | str | None = None
    name: str | None = None
    tags: Mapping[str, Any] = field(default_factory=dict)

    def submit_after(
        self,
        run: RunFolder,
        estimator: TensorFlow,
        when: str = "ok",
        on_note: Callable[[str], None] | None = None,
    ) -> RunFolder:
        """Submit a run that starts once `run` has ended, and return its folder.

        Raises
        ------
        UsageError, SchedulerError
            The earlier run has ended otherwise, or cannot be waited for (`hpctf.runs.following`).
        """
        follower = copy.copy(estimator)
        follower.after = [*estimator.after, str(Condition.parse(f"{run.path}:{when}"))]

        chosen: Site | ChosenSite | str | None = self.site
        if chosen is None:
            request = run.read_record()["request"] or {}
            source = estimator.source_directory
            chosen = ChosenSite(request.get("site"), request.get("settings"), source)

        to = submitter(self.experiment or run.experiment, chosen, run.root)
        labels = Labels(checked_tags(self.tags))
        return to.submit([follower], on_note, self.name, labels)[0]
