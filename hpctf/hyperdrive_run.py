"""A study's run, with the names of Azure ML's ``HyperDriveRun``."""

from __future__ import annotations

import json
import os
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from hpctf.common.terminal import visible
from hpctf.errors import UsageError
from hpctf.estimator.request import estimator_from
from hpctf.run import Run
from hpctf.run_folder.layout import RunFolder
from hpctf.tuning import steering
from hpctf.tuning.config import HyperDriveConfig
from hpctf.tuning.progress import Entry, Progress
from hpctf.tuning.study import Study

if TYPE_CHECKING:
    from collections.abc import Callable

    from pandas import DataFrame

    from hpctf.runs.status.state import RunState

STATUS = {
    "running": "Running",
    "queued": "Queued",
    "waiting": "Queued",
    "completed": "Completed",
    "stopped": "Canceled",
    "failed": "Failed",
    "canceled": "Canceled",
}
"""A trial's state as Azure ML names it: there, one that a policy has stopped was cancelled."""


class HyperDriveRun(Run):
    """A study, by its run folder or the path of it. Its trials are runs of their own.

    Raises
    ------
    UsageError
        The run is not a study.
    """

    def __init__(self, folder: RunFolder | str | os.PathLike[str]) -> None:
        super().__init__(folder)
        self.study = Study(self.folder)

    def __repr__(self) -> str:
        return f"HyperDriveRun(id={self.id!r}, experiment={self.experiment!r})"

    @property
    def progress(self) -> Progress:
        """What the study's ledger says now."""
        return self.study.ledger.refresh()

    @cached_property
    def hyperdrive_config(self) -> HyperDriveConfig:
        """What the study is made of."""
        definition = self.study.definition
        request = self.folder.read_record().get("request") or {}
        config = HyperDriveConfig(
            definition.parameter_sampling,
            definition.metric,
            definition.primary_goal,
            definition.total,
            definition.parallel,
            definition.max_duration_s // 60,
            definition.early_termination,
            run_config=estimator_from(request, self.folder.snapshot),
            trial_timeout=definition.trial_timeout_s,
        )
        trials = [RunFolder(Path(one["folder"])) for one in definition.resume_child_runs]
        return config.having_resumed(
            self.resumed_from, [Run(folder) for folder in trials if folder.record_file.exists()]
        )

    @property
    def resumed_from(self) -> list[HyperDriveRun]:
        """The earlier studies that this one took over results from, as far as they are still
        there."""
        folders = [RunFolder(Path(one["folder"])) for one in self.study.definition.resume_from]
        return [type(self)(folder) for folder in folders if folder.is_study]

    def trial(self, number: int) -> Run:
        """Return a trial's run.

        Raises
        ------
        UsageError
            It has not begun, or its run was removed.
        """
        folder = self.study.trial(number)
        if not folder.record_file.exists():
            known = self.progress.trials.get(number)
            what = "has not begun" if known is None or not known.is_over else "was removed"
            raise UsageError(
                f"Trial {number} of study {self.id} {what}.",
                "hpctf tune status STUDY lists the trials.",
            )
        return Run(folder)

    def wait_for_completion(
        self,
        show_output: bool = False,
        raise_on_error: bool = True,
        on_change: Callable[[RunState, float], None] | None = None,
        stream: TextIO | None = None,
    ) -> RunState:
        """Wait until the study has ended and its job has left the queue.

        The parameters are those of `hpctf.Run.wait_for_completion`; `show_output` prints a line
        whenever trials begin or end.
        """
        from hpctf.tuning.overview import in_words, overview

        said = ""

        def look(status: RunState, waited: float) -> None:
            nonlocal said
            words = f"{self.id}: {in_words(overview(self.study, status))}" if show_output else ""
            if words != said:
                said = words
                print(visible(words), file=stream, flush=True)
            if on_change is not None:
                on_change(status, waited)

        return Run.wait_for_completion(self, False, raise_on_error, look, stream)

    def get_trials(self) -> list[Run]:
        """Return the runs of all trials that have begun, by number."""
        return [self.trial(trial.number) for trial in self._begun()]

    def get_children(  # type: ignore[override]
        self,
        recursive: bool = False,
        tags: Any = None,
        properties: Any = None,
        type: Any = None,
        status: str | None = None,
        _rehydrate_runs: bool = True,
    ) -> list[Run]:
        """Return the runs of all trials that have begun, by number; `status` chooses some."""
        return [
            self.trial(trial.number)
            for trial in self._begun()
            if status is None or STATUS[trial.stage] == status
        ]

    def get_best_run_by_primary_metric(
        self,
        include_failed: bool = True,
        include_canceled: bool = True,
        include_resume_from_runs: bool = True,
    ) -> Run | None:
        """Return the trial with the best value of all that it has logged; None if there is none.

        Parameters
        ----------
        include_failed, include_canceled
            Whether trials count that failed, and those that were cancelled or stopped early.
        include_resume_from_runs
            Whether trials count of the studies in its `resume_from`, as far as they are still
            there.
        """
        sign = self.study.definition.primary_goal.sign
        best: tuple[float, HyperDriveRun, int] | None = None
        for study in [self, *(self.resumed_from if include_resume_from_runs else ())]:
            found = study.progress.best(
                include_failed=include_failed, include_canceled=include_canceled
            )
            if found is None or found.best is None:
                continue
            if best is None or sign * found.best > best[0]:
                best = sign * found.best, study, found.number
        return None if best is None else best[1].trial(best[2])

    def get_children_sorted_by_primary_metric(
        self, top: int = 0, reverse: bool = False, discard_no_metric: bool = False
    ) -> list[dict[str, Any]]:
        """Return a mapping for each trial, the best first.

        Parameters
        ----------
        top
            How many; 0 is all.
        reverse
            Whether the worst comes first.
        discard_no_metric
            Whether trials are left out that never logged the metric; else they come last.

        Returns
        -------
        list
            Mappings with ``run_id``, ``hyperparameters`` (JSON text), ``best_primary_metric`` and
            ``status``.
        """
        ranked = self.progress.ranked()
        with_value = [trial for trial in ranked if trial.best is not None]
        without = [trial for trial in ranked if trial.best is None]
        if reverse:
            with_value.reverse()
        chosen = with_value if discard_no_metric else with_value + without
        return [
            {
                "run_id": self.study.trial_id(trial.number),
                "hyperparameters": json.dumps(self.study.parameters_of(trial.number)),
                "best_primary_metric": trial.best,
                "status": STATUS[trial.stage],
            }
            for trial in (chosen[:top] if top else chosen)
        ]

    def get_metrics(
        self, name: str | None = None, recursive: bool = False, rank: str | None = None
    ) -> dict[str, Any]:
        """Return what each trial has logged, by its id, and then by name."""
        found = {}
        for trial in self._begun():
            logged = self.trial(trial.number).get_metrics(name, recursive, rank)
            if logged:
                found[self.study.trial_id(trial.number)] = logged
        return found

    def get_hyperparameters(self) -> dict[str, str]:
        """Return each trial's parameters, by its id, as JSON text."""
        return {
            self.study.trial_id(trial.number): json.dumps(self.study.parameters_of(trial.number))
            for trial in self._begun()
        }

    def to_pandas(self, rank: str | None = None) -> DataFrame:
        """Return a pandas data frame with a row for each trial, by id; `rank` means nothing here.

        Its columns are the trial's number, state, best and last value and times, and its parameters
        (``param:...``).

        Raises
        ------
        UsageError
            pandas is not installed.
        """
        from hpctf.tracking.dataframes import frame_of_runs
        from hpctf.tuning.overview import overview
        from hpctf.tuning.results import table_of

        return frame_of_runs(table_of(overview(self.study)["trials"], self.study.definition.metric))

    def cancel(self) -> None:
        """Cancel the study: its trials end with their grace, and none begins."""
        steering.stop(self.study)

    def resume(self) -> None:
        """Go on with a study that has ended before all of its trials have."""
        steering.resume(self.study)

    def set_parallel(self, most: int) -> None:
        """Change how many trials run at a time."""
        steering.set_parallel(self.study, most)

    def _begun(self) -> list[Entry]:
        trials = self.progress.trials
        numbers = [n for n in sorted(trials) if self.study.trial(n).record_file.exists()]
        return [trials[number] for number in numbers]
