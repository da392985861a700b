"""Submission scripts written for Azure ML: change their import lines, and they submit to Slurm.

    from hpctf.azureml import Experiment, TensorFlow, Workspace

The names and their parameters are those of Azure ML's SDK v1 (``azureml.core``,
``azureml.train.dnn``, ``azureml.train.estimator``, ``azureml.widgets``), over `hpctf.Experiment`
and `hpctf.TensorFlow`. docs/from-azure-ml.md says of each parameter what becomes of it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NoReturn

from hpctf import estimator
from hpctf.errors import UsageError
from hpctf.estimator import Mpi
from hpctf.runs import experiment, run
from hpctf.runs.own import open_of_run
from hpctf.site.load import find_target, load_site
from hpctf.site.model import Site
from hpctf.software import NOT_HERE

if TYPE_CHECKING:
    from hpctf.tracking.child import ChildRun

__all__ = [
    "AmlCompute",
    "ComputeTarget",
    "ComputeTargetException",
    "Estimator",
    "Experiment",
    "Mpi",
    "ParameterServer",
    "Run",
    "RunDetails",
    "TensorFlow",
    "Workspace",
]

ComputeTargetException = UsageError
"""What `ComputeTarget` raises for a target that is not there."""

NOTED = ("vm_size", "vm_priority", "shm_size")
"""Parameters without which a training does the same: a note says what there is instead."""


class Workspace:
    """A site, where Azure ML has a workspace.

    Its parameters are Azure ML's, and name nothing here: the site is that of HPCTF_SITE, as for
    all of hpctf, or `site`.
    """

    def __init__(
        self,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        workspace_name: str | None = None,
        *args: Any,
        site: Site | str | None = None,
        **kwargs: Any,
    ) -> None:
        self.site = site if isinstance(site, Site) else load_site(site)

    def __repr__(self) -> str:
        return f"Workspace(site={self.name!r})"

    @classmethod
    def from_config(cls, *args: Any, **kwargs: Any) -> Workspace:
        """Return the workspace; no config.json is needed or read."""
        return cls()

    @classmethod
    def get(cls, *args: Any, **kwargs: Any) -> Workspace:
        """Return the workspace."""
        return cls()

    @property
    def name(self) -> str:
        """The site's name."""
        return self.site.name

    @property
    def compute_targets(self) -> dict[str, ComputeTarget]:
        """The site's compute targets by name."""
        return {name: ComputeTarget(self, name) for name in self.site.targets}

    def get_default_datastore(self) -> NoReturn:
        """Refused: data lie on the file system."""
        raise UsageError(
            "A cluster has no datastores.", "Name data by their paths: inputs={'name': '/path'}."
        )


class ComputeTarget:
    """One of the site's compute targets.

    Raises
    ------
    UsageError
        The site has no such target; `ComputeTargetException` is another name of it.
    """

    def __init__(self, workspace: Workspace, name: str) -> None:
        self.workspace = workspace
        self.name, self.target = find_target(workspace.site, name)

    def __repr__(self) -> str:
        return f"ComputeTarget(name={self.name!r}, site={self.workspace.name!r})"

    @staticmethod
    def create(*args: Any, **kwargs: Any) -> NoReturn:
        """Refused: the cluster is there."""
        raise UsageError(
            "A cluster's compute targets are not created.", "hpctf site show names those there are."
        )

    def wait_for_completion(self, *args: Any, **kwargs: Any) -> None:
        """Return at once: the target is there."""

    def get_status(self) -> str:
        """Return ``Succeeded``: the target is there."""
        return "Succeeded"


class AmlCompute(ComputeTarget):
    """A `ComputeTarget`."""

    @staticmethod
    def provisioning_configuration(*args: Any, **kwargs: Any) -> NoReturn:
        """Refused: the cluster is there."""
        ComputeTarget.create()


@dataclass(frozen=True)
class ParameterServer(estimator.ParameterServer):
    """Parameter servers as Azure ML has them: the script runs on every worker and every ps, and
    there is no chief besides the workers."""

    coordinator: bool = False
    chief: bool = False


class TensorFlow(estimator.TensorFlow):
    """`hpctf.TensorFlow` with all parameters of Azure ML's, whose counts are 1 by default.

    Those of hpctf's own (``mem``, ``python``, ``container`` ...) are taken, too.
    """

    def __init__(
        self, source_directory: str | os.PathLike[str] | None = None, **asked: Any
    ) -> None:
        self.notes: list[str] = []
        known = {name: value for name, value in asked.items() if not _is_silent(name, value)}
        for name in NOTED:
            if known.pop(name, None) is not None:
                self.notes.append(f"{name} means nothing on a cluster. {NOT_HERE[name]}")
        if known.get("use_docker") and not _names_an_image(known):
            del known["use_docker"]  # Azure ML's default: a cluster's trainings need no image
        target = known.get("compute_target")
        self.on_this_machine = target == "local"
        known["compute_target"] = None if self.on_this_machine else getattr(target, "name", target)
        _as_azure_ml_distributes(known)
        super().__init__(source_directory, **known)


class Estimator(TensorFlow):
    """A training of any framework: its packages are those that it names, and no others."""

    def __init__(
        self, source_directory: str | os.PathLike[str] | None = None, **asked: Any
    ) -> None:
        if "framework_version" in asked:
            raise UsageError(
                "framework_version is TensorFlow's, and Estimator() knows no framework.",
                "Say TensorFlow(...), or pip_packages=['tensorflow==...'].",
            )
        super().__init__(source_directory, **asked)


class Run(run.Run):
    """`hpctf.Run` with the parameters that Azure ML's methods take."""

    @property
    def name(self) -> str:
        """The run's id."""
        return self.id

    display_name = name

    def wait_for_completion(  # type: ignore[override]
        self,
        show_output: bool = False,
        wait_post_processing: bool = False,
        raise_on_error: bool = True,
    ) -> dict[str, Any]:
        """Wait until the run has ended, and return its details.

        Raises
        ------
        TrainingFailed
            It did not complete, and `raise_on_error` is set.
        """
        super().wait_for_completion(show_output, raise_on_error)
        return self.get_details()

    def get_details_with_logs(self) -> dict[str, Any]:
        """Return the details, and the text of each log by its name."""
        names = [name for name in self.get_file_names() if name.startswith("logs/")]
        texts = {}
        for name in names:
            with open_of_run(self.folder.path / name) as stream:
                texts[name] = stream.read().decode("utf-8", "replace")
        return {**self.get_details(), "logFiles": texts}

    def get_portal_url(self) -> str:
        """Return where the run lies: a cluster has no portal."""
        return self.folder.path.as_uri()


class Experiment:
    """`hpctf.Experiment`, made of a workspace and a name as in Azure ML."""

    def __init__(self, workspace: Workspace, name: str, **kwargs: Any) -> None:
        self.workspace = workspace
        self.name = name
        self._experiment = experiment.Experiment(name, site=workspace.site)

    def __repr__(self) -> str:
        return f"Experiment(name={self.name!r}, workspace={self.workspace!r})"

    def _repr_html_(self) -> str:
        return self._experiment._repr_html_()

    def submit(self, config: TensorFlow, tags: Mapping[str, Any] | None = None) -> Run:
        """Submit an estimator, give the run its tags, and return it.

        ``compute_target="local"`` runs it on this machine.

        Raises
        ------
        UsageError, SiteError
            The request cannot be met: nothing was written.
        """
        if not isinstance(config, estimator.TensorFlow):
            raise UsageError(
                f"Experiment.submit() takes an estimator, not {type(config).__name__}.",
                "Say TensorFlow(...) or Estimator(...), of hpctf.azureml.",
            )
        for note in getattr(config, "notes", ()):
            print(f"note: {note}", file=sys.stderr)
        return Run(self._of(config).submit(config, tags=tags).folder)

    def get_runs(
        self,
        type: str | None = None,
        tags: Mapping[str, Any] | str | None = None,
        properties: Mapping[str, Any] | str | None = None,
        include_children: bool = False,
    ) -> Iterator[Run | ChildRun]:
        """Yield the experiment's runs, the latest first; all of hpctf's are of one `type`."""
        for one in self._experiment.get_runs(tags, properties, include_children):
            yield Run(one.folder) if isinstance(one, run.Run) else one

    def start_logging(self, *args: Any, **kwargs: Any) -> NoReturn:
        """Refused: a run is what a job logs to."""
        raise UsageError(
            "Experiment.start_logging() has no counterpart: a run belongs to a job.",
            "Put the training into a script, and submit it; compute_target='local' runs it here.",
        )

    def _of(self, config: estimator.TensorFlow) -> experiment.Experiment:
        if not getattr(config, "on_this_machine", False) or self.workspace.site.name == "local":
            return self._experiment
        root = self._experiment.runs_root
        return experiment.Experiment(self.name, site="local", runs_root=root)


class RunDetails:
    """What ``azureml.widgets`` shows of a run; `hpctf watch` follows it in a terminal."""

    def __init__(self, run_instance: Run) -> None:
        self.run = run_instance

    def show(self) -> None:
        """Show the run's widget in a notebook; elsewhere print its state."""
        self.run.show()


def _is_silent(name: str, value: Any) -> bool:
    """Whether a parameter says nothing: Azure ML's private ones, and those left at None."""
    return value is None or (name.startswith("_") and not name.startswith("__"))


def _names_an_image(asked: Mapping[str, Any]) -> bool:
    names = ("container", "custom_docker_image", "custom_docker_base_image")
    return any(asked.get(name) is not None for name in names)


def _as_azure_ml_distributes(asked: dict[str, Any]) -> None:
    """Give counts the meaning that Azure ML's have: 1, their default, says nothing; its parameter
    servers are `ParameterServer`."""
    for name in ("process_count_per_node", "worker_count", "parameter_server_count"):
        if asked.get(name) == 1:
            del asked[name]
    if asked.get("distributed_backend") == "ps" and "distributed_training" not in asked:
        del asked["distributed_backend"]
        asked["distributed_training"] = ParameterServer(
            asked.pop("worker_count", 1), asked.pop("parameter_server_count", 1)
        )
