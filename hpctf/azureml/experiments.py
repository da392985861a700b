"""Azure ML's experiments, as submission scripts and notebooks use them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from hpctf import experiment, run
from hpctf.azureml.configuration import ScriptRunConfig
from hpctf.azureml.hyperdrive import HyperDriveRun, run_of
from hpctf.azureml.refusing import OfSite, refuses
from hpctf.azureml.runs import ChildRun, Labels, Run
from hpctf.common.notes import notify
from hpctf.errors import UsageError
from hpctf.estimator import tensorflow
from hpctf.run_folder.layout import experiment_names
from hpctf.runs.root import runs_root_of
from hpctf.tuning.config import HyperDriveConfig


@refuses("Experiment")
class Experiment:
    """`hpctf.Experiment`, made of a workspace and a name as in Azure ML."""

    def __init__(self, workspace: OfSite, name: str, **kwargs: Any) -> None:
        self.workspace = self.workspace_object = workspace
        self.name = self.id = name
        self._experiment = experiment.Experiment(name, site=workspace.site)

    def __repr__(self) -> str:
        return f"Experiment(name={self.name!r}, workspace={self.workspace!r})"

    def _repr_html_(self) -> str:
        return self._experiment._repr_html_()

    @staticmethod
    def list(
        workspace: OfSite,
        experiment_name: str | None = None,
        view_type: object = None,
        tags: object = None,
    ) -> list[Experiment]:
        """Return the experiments that have runs, or the one of that name."""
        names = experiment_names(runs_root_of(workspace.site))
        return [Experiment(workspace, name) for name in names if experiment_name in (None, name)]

    def submit(
        self,
        config: tensorflow.TensorFlow | ScriptRunConfig | HyperDriveConfig,
        tags: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> Run:
        """Submit an estimator, a `ScriptRunConfig`, or a study of one (`HyperDriveConfig`), give
        the run its tags, and return it.

        ``compute_target="local"`` runs it on this machine.

        Raises
        ------
        UsageError, SiteError
            The request cannot be met: nothing was written.
        """
        study = config if isinstance(config, HyperDriveConfig) else None
        what = config if study is None else study.estimator or study.run_config
        with tempfile.TemporaryDirectory(prefix="hpctf-") as scratch:
            if isinstance(what, ScriptRunConfig):
                what = what.estimator(Path(scratch))
            elif not isinstance(what, tensorflow.TensorFlow):
                raise UsageError(
                    f"Experiment.submit() takes an estimator, not {type(what).__name__}.",
                    "Use ScriptRunConfig(...), TensorFlow(...) or Estimator(...) of hpctf.azureml.",
                )
            for note in getattr(what, "notes", ()):
                notify(note)
            to = self._experiment
            if getattr(what, "on_this_machine", False) and self.workspace.site.name != "local":
                to = experiment.Experiment(self.name, site="local", runs_root=to.runs_root)
            if study is None:
                return Run(to.submit(what, tags=tags).folder)
            again = replace(study, estimator=what, run_config=None)
            return HyperDriveRun(to.submit(again, tags=tags).folder)

    def get_runs(
        self,
        type: str | None = None,
        tags: Labels = None,
        properties: Labels = None,
        include_children: bool = False,
    ) -> Iterator[Run | ChildRun]:
        """Yield the experiment's runs, the latest first; all of hpctf's are of one `type`."""
        return self._runs(tags, properties, include_children)

    def get_portal_url(self) -> str:
        """Return where the runs lie: a cluster has no portal."""
        return (self._experiment.runs_root / self.name).as_uri()

    def _runs(
        self, tags: Labels, properties: Labels, include_children: bool, status: str | None = None
    ) -> Iterator[Run | ChildRun]:
        for one in self._experiment.get_runs(tags, properties, include_children, status):
            yield run_of(one.folder) if isinstance(one, run.Run) else ChildRun.of(one)
