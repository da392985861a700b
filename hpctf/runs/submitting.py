"""Submitting runs: their folders are made, filled and handed to the scheduler, all or none."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from hpctf._version import __version__
from hpctf.common.files import cannot_write, make_folder
from hpctf.common.notes import notify
from hpctf.common.processes import user_name
from hpctf.common.secrets import hidden
from hpctf.common.trusted_path import check_place
from hpctf.errors import SubmissionError
from hpctf.planning.planner import Planned, make_plan
from hpctf.run_folder.layout import RunFolder, check_name, new_run_id
from hpctf.run_folder.ownership import OTHERS_WRITE, seal
from hpctf.runs.checkpoints import begun_with, copy_checkpoints
from hpctf.runs.following import Looks, following
from hpctf.runs.provenance import Origin, origins_of
from hpctf.runs.root import runs_root_of
from hpctf.runs.site_choice import ChosenSite
from hpctf.runs.status.lost_submissions import this_process
from hpctf.site.model import Site
from hpctf.site.trust import trusted_by
from hpctf.submission.preparing import Prepared, prepared, will_build
from hpctf.tracking.metrics import write_tags

if TYPE_CHECKING:
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.plan import Plan


HandOver = Callable[["Sequence[Plan]", "Sequence[TensorFlow]", "Sequence[RunFolder]"], None]


class Labels(NamedTuple):
    """The tags and properties that a run is submitted with."""

    tags: Mapping[str, Any] = MappingProxyType({})
    properties: Mapping[str, Any] = MappingProxyType({})


@dataclass(frozen=True)
class Submitter:
    """Submits runs of one experiment to one site.

    ``chosen`` is how the site was chosen, for the request on record (`ChosenSite.as_json`).
    """

    experiment: str
    site: Site
    chosen: Mapping[str, Any]
    runs_root: Path

    def plan(
        self,
        estimator: TensorFlow,
        name: str | None = None,
        *,
        origin: Origin | None = None,
        looks: Looks | None = None,
    ) -> Planned:
        """Return what submitting the estimator would do; nothing is written.

        `looks` has the states of earlier runs that have been looked at already.
        """
        found = following(estimator, looks or Looks(self.runs_root))
        run_id = new_run_id(self.experiment if name is None else check_name("run", name))
        planned = make_plan(
            found.estimator,
            self.site,
            run_id=run_id,
            experiment=self.experiment,
            run_folder=str(self.runs_root / self.experiment / run_id),
            spec=None if origin is None else origin.spec,
        )
        waiting = found.applied(planned.plan, self.site)
        plan, resuming = begun_with(waiting, estimator, self.runs_root)
        notes = [
            *planned.notes,
            *found.notes,
            *resuming,
            *will_build(planned, self.site),
            *_private_places(planned),
            *_open_to_writers(planned),
        ]
        return replace(planned, plan=plan, notes=tuple(notes))

    def submit(
        self,
        estimators: list[TensorFlow],
        on_note: Any,
        name: str | None,
        labels: Labels,
        origin: Origin | None = None,
        *,
        adapt: Callable[[Planned], Planned] | None = None,
        hand_over: HandOver | None = None,
    ) -> list[RunFolder]:
        """Submit runs, and return their run folders; see `hpctf.Experiment.submit`.

        Parameters
        ----------
        adapt
            Changes a plan before anything is made of it.
        hand_over
            Hands run folders that are ready to the scheduler; by default, each is a job.
        """
        looks = Looks(self.runs_root)
        planned = [self.plan(one, name, origin=origin, looks=looks) for one in estimators]
        if adapt is not None:
            planned = [adapt(one) for one in planned]
        tell = on_note or notify
        for note in dict.fromkeys(note for one in planned for note in one.notes):
            tell(note)
        # The job runs what lies in the run's folder, so nobody may put another one in its place.
        check_place(self.runs_root / self.experiment, "The folder of runs", trusted_by(self.site))
        with prepared(planned, estimators, self.site, tell) as ready:
            more = {**self.chosen, **labels._asdict()}
            origins = [origin] if origin else origins_of(estimators, more)
            notes = [one.notes for one in planned]
            return self._submit_ready(ready, estimators, origins, notes, labels, tell, hand_over)

    def _submit_ready(
        self,
        ready: Prepared,
        estimators: list[TensorFlow],
        origins: list[Origin],
        notes: list[tuple[str, ...]],
        labels: Labels,
        tell: Callable[[str], None],
        hand_over: HandOver | None,
    ) -> list[RunFolder]:
        """Make the run folders and submit; the environment is there, or its job is."""
        from hpctf.submission.submit import submit_plans

        plans = ready.plans
        folders = [RunFolder(Path(plan.run_folder)) for plan in plans]
        made: list[tuple[RunFolder, list[Path]]] = []
        try:
            each = zip(folders, plans, estimators, origins, notes, strict=True)
            for folder, plan, estimator, origin, noted in each:
                made.append((folder, folder.make(plan.ranks(), int(plan.umask, 8))))
                self._fill(folder, plan, estimator, origin, ready.build, noted)
                write_tags(folder.path, labels.tags)
                write_tags(folder.path, labels.properties, "property")
                ready.keep(folder)
            (hand_over or submit_plans)(plans, estimators, folders)
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
        return folders

    def _fill(
        self,
        folder: RunFolder,
        plan: Plan,
        estimator: TensorFlow,
        origin: Origin,
        build: dict[str, Any] | None,
        notes: tuple[str, ...],
    ) -> None:
        """Write what the run is before all else: from then on it is on record, whatever happens."""
        umask = int(plan.umask, 8)
        seal(folder.path)
        record = {
            "id": folder.id,
            "experiment": self.experiment,
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
            "notes": [hidden(note) for note in notes],
            "versions": {"hpctf": __version__, "python": sys.version.split()[0]},
        }
        folder.write_documents(json.loads(plan.to_json()), record)
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


def submitter(
    experiment: str,
    site: Site | ChosenSite | str | None = None,
    runs_root: str | os.PathLike[str] | None = None,
) -> Submitter:
    """Return what submits runs; the parameters are those of `hpctf.Experiment`."""
    name = check_name("experiment", experiment)
    if isinstance(site, Site):
        loaded, chosen = site, {"site": site.name, "settings": []}
    else:
        named = site if isinstance(site, ChosenSite) else ChosenSite(site)
        loaded, chosen = named.load(), named.as_json()
    return Submitter(name, loaded, chosen, runs_root_of(loaded, runs_root))


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
    unseen = "nodes of most clusters have a /tmp of their own and will not find it."
    private = ("/tmp/", "/dev/shm/")
    return [f"{w} lies in {p}: {unseen}" for w, p in places.items() if p.startswith(private)]


def _open_to_writers(planned: Planned) -> list[str]:
    """Return a note if a function's value will be refused by `hpctf.run_folder.trusted_results`."""
    plan = planned.plan
    if plan.entry.kind != "function" or int(plan.umask, 8) & OTHERS_WRITE == OTHERS_WRITE:
        return []
    return [
        f"the site's umask is {plan.umask}, so others may write the run: its results will not be "
        "read, since pickles run code. 0022 or 0027 lets them read only."
    ]
