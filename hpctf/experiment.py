"""An experiment: a name under which runs are submitted and found."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from hpctf._version import __version__
from hpctf.common.files import cannot_write, make_folder
from hpctf.common.notes import notify
from hpctf.common.processes import user_name
from hpctf.common.trusted_path import check_place
from hpctf.errors import SubmissionError, UsageError
from hpctf.planning.planner import Planned, make_plan
from hpctf.run import Run
from hpctf.run_folder.layout import RunFolder, check_name, new_run_id, runs_root_of
from hpctf.runs.checkpoints import begun_with, copy_checkpoints
from hpctf.runs.own import OTHERS_WRITE, seal
from hpctf.runs.provenance import Origin, origins_of
from hpctf.runs.site_choice import ChosenSite
from hpctf.runs.status.lost_submissions import this_process
from hpctf.site.model import Site
from hpctf.site.trust import trusted_by
from hpctf.submission.preparing import Prepared, prepared, will_build
from hpctf.tracking.metrics import checked_tags, write_tags

if TYPE_CHECKING:
    from pandas import DataFrame

    from hpctf.child_run import ChildRun
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.plan import Plan


class Labels(NamedTuple):
    """The tags and properties that a run is submitted with."""

    tags: Mapping[str, Any] = MappingProxyType({})
    properties: Mapping[str, Any] = MappingProxyType({})


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
        self.name = check_name("experiment", name)
        if isinstance(site, Site):
            self.site, self._chosen = site, {"site": site.name, "settings": []}
        else:
            chosen = site if isinstance(site, ChosenSite) else ChosenSite(site)
            self.site, self._chosen = chosen.load(), chosen.plain()
        self.runs_root = runs_root_of(self.site, runs_root)

    def __repr__(self) -> str:
        return f"Experiment({self.name!r}, site={self.site.name!r}, runs_root={self.runs_root})"

    def plan(
        self, estimator: TensorFlow, name: str | None = None, *, origin: Origin | None = None
    ) -> Planned:
        """Return what submitting the estimator would do; nothing is written.

        The parameters are those of `submit`.
        """
        run_id = new_run_id(self.name if name is None else check_name("run", name))
        folder = str(self.runs_root / self.name / run_id)
        planned = make_plan(
            estimator,
            self.site,
            run_id=run_id,
            experiment=self.name,
            run_folder=folder,
            spec=None if origin is None else origin.spec,
        )
        plan, resuming = begun_with(planned.plan, estimator, self.runs_root)
        notes = [
            *planned.notes,
            *resuming,
            *will_build(planned, self.site),
            *_private_places(planned),
            *_open_to_writers(planned),
        ]
        return replace(planned, plan=plan, notes=tuple(notes))

    def _repr_html_(self) -> str:
        from hpctf.notebook.cards import experiment_card

        return experiment_card(self)

    def submit(
        self,
        estimator: TensorFlow,
        on_note: Any = None,
        *,
        name: str | None = None,
        tags: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
        origin: Origin | None = None,
    ) -> Run:
        """Submit a training and return its run.

        Parameters
        ----------
        name
            What the run's id and its job begin with; by default the experiment's name.
        on_note
            Called with each note; by default it is logged, or printed to stderr.
        tags, properties
            What the run is found by later; properties never change.
        origin
            What the run repeats of an earlier one (`Run.resubmit`).

        Raises
        ------
        UsageError, SiteError
            The request cannot be met: nothing was written.
        RunFolderError, SubmissionError
            The file system or the scheduler refused: nothing was left behind.
        """
        labels = Labels(checked_tags(tags or {}), checked_tags(properties or {}, "property"))
        return self._submit([estimator], on_note, name, labels, origin)[0]

    def submit_array(
        self,
        estimators: Sequence[TensorFlow],
        on_note: Any = None,
        *,
        tags: Mapping[str, Any] | None = None,
    ) -> list[Run]:
        """Submit trainings of one size as one job array, each a run of its own with the same tags.

        Raises
        ------
        UsageError
            They do not ask for the same, or one needs a heterogeneous job, which Slurm does not
            allow in arrays.
        """
        if not estimators:
            raise UsageError("submit_array() got no estimators.")
        if self.site.scheduler != "slurm":
            raise UsageError(f"Site {self.site.name!r} has no Slurm, and so no job arrays.")
        if "array" in self.site.drop:
            raise UsageError(
                f"Site {self.site.name!r} has no job arrays: it drops 'array'.",
                "Submit the trainings one by one.",
            )
        return self._submit(list(estimators), on_note, None, Labels(checked_tags(tags or {})))

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
        from hpctf.runs.search.tables import matching

        return matching(self.runs_root, self.name, tags, properties, include_children, status)

    def to_pandas(self) -> DataFrame:
        """Return a pandas data frame with a row for each run, by id.

        Its columns are what a listing shows, and the parameters (``param:...``), tags
        (``tag:...``) and last metrics of each run.

        Raises
        ------
        UsageError
            pandas is not installed.
        """
        from hpctf.runs.search.tables import table_of
        from hpctf.tracking.dataframes import frame_of_runs

        return frame_of_runs(table_of(self.runs_root, self.name))

    def _submit(
        self,
        estimators: list[TensorFlow],
        on_note: Any,
        name: str | None,
        labels: Labels,
        origin: Origin | None = None,
    ) -> list[Run]:
        planned = [self.plan(estimator, name, origin=origin) for estimator in estimators]
        tell = on_note or notify
        for note in dict.fromkeys(note for one in planned for note in one.notes):
            tell(note)
        # The job runs what lies in the run's folder, so nobody may put another one in its place.
        check_place(self.runs_root / self.name, "The folder of runs", trusted_by(self.site))
        with prepared(planned, estimators, self.site, tell) as ready:
            more = {**self._chosen, **labels._asdict()}
            origins = [origin] if origin else origins_of(estimators, more)
            return self._submit_ready(ready, estimators, origins, labels, tell)

    def _submit_ready(
        self,
        ready: Prepared,
        estimators: list[TensorFlow],
        origins: list[Origin],
        labels: Labels,
        tell: Callable[[str], None],
    ) -> list[Run]:
        """Make the run folders and submit; the environment is there, or its job is."""
        from hpctf.submission.submit import submit_plans

        plans = ready.plans
        folders = [RunFolder(Path(plan.run_folder)) for plan in plans]
        made: list[tuple[RunFolder, list[Path]]] = []
        try:
            for folder, plan, estimator, origin in zip(
                folders, plans, estimators, origins, strict=True
            ):
                made.append((folder, folder.make(plan.ranks(), int(plan.umask, 8))))
                self._fill(folder, plan, estimator, origin, ready.build)
                write_tags(folder.path, labels.tags)
                write_tags(folder.path, labels.properties, "property")
                ready.keep(folder)
            submit_plans(plans, estimators, folders)
        except BaseException as error:
            cause = cannot_write(folders[0].path, error) if isinstance(error, OSError) else error
            # Once sbatch has its script, only its own refusal says that no job came of it; else
            # hpctf.runs.status.lost_submissions finds out.
            if isinstance(error, SubmissionError) or not os.path.exists(folders[0].script):
                for folder, above in reversed(made):
                    folder.remove(above)
            for folder, _ in made:
                with contextlib.suppress(OSError):
                    folder.update_record(submitter=None)
            if isinstance(error, KeyboardInterrupt) and folders[0].path.exists():
                tell(f"interrupted: see what became of it with 'hpctf status {plans[0].run_id}'")
            raise cause from None
        return [Run(folder) for folder in folders]

    def _fill(
        self,
        folder: RunFolder,
        plan: Plan,
        estimator: TensorFlow,
        origin: Origin,
        build: dict[str, Any] | None,
    ) -> None:
        """Write what the run is before all else: from then on it is on record, whatever happens."""
        umask = int(plan.umask, 8)
        seal(folder.path)
        folder.write_documents(
            json.loads(plan.to_json()),
            {
                "id": folder.run_id,
                "experiment": self.name,
                "job_id": None,
                "submitter": this_process(),
                "submitted": time.time(),
                "user": user_name(),
                "uid": os.geteuid(),
                "host": os.uname().nodename,
                "command": sys.argv,
                **origin.record(plan),
                "environment": plan.environment or None,
                "build": build,
                "versions": {"hpctf": __version__, "python": sys.version.split()[0]},
            },
        )
        if estimator.source_directory is None:
            make_folder(folder.snapshot, umask)
        else:
            origin.keep(folder, estimator, self.site.max_snapshot_mb, umask)
        (folder.snapshot / "outputs").symlink_to("../outputs")
        if plan.resumed_from is not None:
            copy_checkpoints(Path(plan.resumed_from), folder.checkpoints, umask)
        if plan.resumed_outputs is not None:
            make_folder(folder.resumed, umask)
            copy_checkpoints(Path(plan.resumed_outputs), folder.resumed, umask)


def _private_places(planned: Planned) -> list[str]:
    """Return a note for each place that Slurm's nodes most likely do not share."""
    plan = planned.plan
    if plan.scheduler != "slurm":
        return []
    places = {
        "the run folder": plan.run_folder,
        "hpctf's Python": plan.launch.hpctf_python,
        "the training's Python": plan.entry.python,
    }
    return [
        f"{what} lies in {path}: nodes of most clusters have a /tmp of their own and will not "
        "find it."
        for what, path in places.items()
        if path.startswith(("/tmp/", "/dev/shm/"))
    ]


def _open_to_writers(planned: Planned) -> list[str]:
    """Return a note if a function's value will be refused by `hpctf.run_folder.trusted_results`."""
    plan = planned.plan
    if plan.entry.kind != "function" or int(plan.umask, 8) & OTHERS_WRITE == OTHERS_WRITE:
        return []
    return [
        f"the site's umask is {plan.umask}, so others may write the run: its results will not be "
        "read, since pickles run code. 0022 or 0027 lets them read only."
    ]
