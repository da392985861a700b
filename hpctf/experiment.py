"""An experiment: a name under which runs are submitted and found."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, overload

from hpctf.errors import UsageError
from hpctf.estimator.tensorflow import TensorFlow
from hpctf.planning.planner import Planned
from hpctf.run import Run
from hpctf.runs.submitting import Labels, submitter
from hpctf.tracking.metrics import checked_tags

if TYPE_CHECKING:
    from pathlib import Path

    from pandas import DataFrame

    from hpctf.child_run import ChildRun
    from hpctf.hyperdrive_run import HyperDriveRun
    from hpctf.runs.site_choice import ChosenSite
    from hpctf.site.model import Site
    from hpctf.tuning.config import HyperDriveConfig
    from hpctf.tuning.submit import Packing


class Experiment:
    """Runs that belong together.

    Parameters
    ----------
    name
        Letters, digits, ``_`` and ``-``; it becomes a folder under the runs root.
    site
        A site's name, the path of its YAML file, or a `Site`; by default HPCTF_SITE, else
        ``slurm`` where there is an sbatch, else ``local``. A `ChosenSite` sets keys, too.
    runs_root
        Folder of all runs; by default HPCTF_RUNS_ROOT, else what the site says.
    """

    def __init__(
        self,
        name: str,
        site: Site | ChosenSite | str | None = None,
        runs_root: str | os.PathLike[str] | None = None,
    ) -> None:
        self._submitter = submitter(name, site, runs_root)

    @property
    def name(self) -> str:
        """The experiment's name."""
        return self._submitter.experiment

    @property
    def site(self) -> Site:
        """The site that its runs are submitted to."""
        return self._submitter.site

    @property
    def runs_root(self) -> Path:
        """The folder of all runs."""
        return self._submitter.runs_root

    def __repr__(self) -> str:
        return f"Experiment({self.name!r}, site={self.site.name!r}, runs_root={self.runs_root})"

    def plan(self, estimator: TensorFlow, name: str | None = None) -> Planned:
        """Return what submitting the estimator would do; nothing is written.

        The parameters are those of `submit`.
        """
        return self._submitter.plan(estimator, name)

    def _repr_html_(self) -> str:
        from hpctf.notebook.cards import experiment_card

        return experiment_card(self.name, self.runs_root)

    @overload
    def submit(
        self,
        estimator: HyperDriveConfig,
        on_note: Any = None,
        *,
        name: str | None = None,
        tags: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> HyperDriveRun: ...

    @overload
    def submit(
        self,
        estimator: TensorFlow,
        on_note: Any = None,
        *,
        name: str | None = None,
        tags: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> Run: ...

    def submit(
        self,
        estimator: TensorFlow | HyperDriveConfig,
        on_note: Any = None,
        *,
        name: str | None = None,
        tags: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> Run:
        """Submit a training and return its run; of a `HyperDriveConfig`, submit a study.

        Parameters
        ----------
        name
            What the run's id and its job begin with; by default the experiment's name.
        on_note
            Called with each note; by default it is logged, or printed to stderr.
        tags, properties
            What the run is found by later; properties never change.

        Raises
        ------
        UsageError, SiteError
            The request cannot be met: nothing was written.
        RunFolderError, SubmissionError
            The file system or the scheduler refused: nothing was left behind.
        """
        labels = Labels(checked_tags(tags or {}), checked_tags(properties or {}, "property"))
        if not isinstance(estimator, TensorFlow):
            from hpctf.tuning.config import HyperDriveConfig

            if isinstance(estimator, HyperDriveConfig):
                named = replace(estimator, custom_run_id=name) if name else estimator
                return self.submit_study(named, labels, on_note)
        return Run(self._submitter.submit([estimator], on_note, name, labels)[0])

    def submit_study(
        self,
        config: HyperDriveConfig,
        labels: Labels | None = None,
        on_note: Any = None,
        *,
        seed: int | None = None,
        packing: Packing | None = None,
        job_per_trial: bool | None = None,
    ) -> HyperDriveRun:
        """Submit a study, and return its run (`hpctf.tuning.submit.submit_study`)."""
        from hpctf.hyperdrive_run import HyperDriveRun
        from hpctf.tuning.submit import ONE_A_JOB, submit_study

        made = submit_study(
            self._submitter,
            config,
            labels or Labels(),
            on_note,
            seed=seed,
            packing=packing or ONE_A_JOB,
            job_per_trial=job_per_trial,
        )
        return HyperDriveRun(made)

    def submit_array(
        self,
        estimators: Sequence[TensorFlow],
        on_note: Any = None,
        *,
        tags: Mapping[str, Any] | None = None,
    ) -> list[Run]:
        """Submit runs of one size as one job array, each a run of its own with the same tags.

        Raises
        ------
        UsageError
            They do not ask for the same, or one needs a heterogeneous job, which Slurm does not
            allow in arrays.
        """
        if not estimators:
            raise UsageError("submit_array() got no estimators.", "Pass at least one.")
        if self.site.scheduler != "slurm":
            raise UsageError(
                f"Site {self.site.name!r} has no Slurm, and so no job arrays.",
                "Submit them one by one with submit(), or choose a site with Slurm.",
            )
        if "array" in self.site.drop:
            raise UsageError(
                f"Site {self.site.name!r} has no job arrays: it drops 'array'.",
                "Submit the runs one by one.",
            )
        labels = Labels(checked_tags(tags or {}))
        folders = self._submitter.submit(list(estimators), on_note, None, labels)
        return [Run(folder) for folder in folders]

    def get_runs(
        self,
        tags: Mapping[str, Any] | str | None = None,
        properties: Mapping[str, Any] | str | None = None,
        include_children: bool = False,
        status: str | None = None,
    ) -> Iterator[Run | ChildRun]:
        """Yield the experiment's runs, the latest first.

        Parameters
        ----------
        tags, properties
            Only runs that have all of these, or one of that key.
        include_children
            Whether each run is followed by its child runs that fulfil the same.
        status
            Only runs in this state.
        """
        from hpctf.runs.search.tables import has_labels, readable

        for folder in readable(self.runs_root, self.name, status):
            run = Run(folder)
            if has_labels(run, tags, properties):
                yield run
            if include_children:
                for child in run.get_children():
                    if has_labels(child, tags, properties) and status in (None, child.status):
                        yield child

    def to_pandas(self) -> DataFrame:
        """Return a pandas data frame with a row for each run, by id.

        Its columns are what a listing shows, and the parameters (``param:...``), tags
        (``tag:...``) and last metrics of each run.

        Raises
        ------
        UsageError
            pandas is not installed.
        """
        from hpctf.runs.search.filters import Facts
        from hpctf.runs.search.tables import row_of
        from hpctf.runs.status.listing import list_runs
        from hpctf.tracking.dataframes import frame_of_runs

        runs = list_runs(self.runs_root, self.name)
        return frame_of_runs(row_of(Facts(run)) for run in runs)
