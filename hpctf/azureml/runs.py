"""Azure ML's runs and their widget, as submission scripts and notebooks use them."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from hpctf import child_run, run
from hpctf.azureml.datastore import DataPath
from hpctf.azureml.models import Model, Pairs, ResourceConfiguration, about_of
from hpctf.azureml.refusing import NotHere, OfSite, refuses
from hpctf.client.hpctf import artifacts, azureml_run
from hpctf.errors import UsageError, shown
from hpctf.run_folder.layout import RunFolder, find_run
from hpctf.run_folder.ownership import open_of_run
from hpctf.runs.kept_files import copy_file
from hpctf.runs.root import runs_root_of
from hpctf.runs.search.tables import has_labels

if TYPE_CHECKING:
    from hpctf.client.hpctf.run_context import Run as RunContext

Labels = Mapping[str, Any] | str | None
"""Tags or properties: those that a run is to have, or the name of one."""


@refuses("Run")
class ChildRun(child_run.ChildRun):
    """A child run that says what to write instead of the names that only a run has."""

    @classmethod
    def of(cls, child: child_run.ChildRun) -> ChildRun:
        """Return the same child run."""
        return cls(child._about, child._parent_state)

    def _get_outputs_datapath(self) -> NoReturn:
        raise NotHere(
            f"{self.id} is a child run, which has no ./outputs of its own.",
            f"Use those of the run that made it: ws.get_run({self.parent!r}).",
        )


@refuses("Run")
class Run(run.Run):
    """`hpctf.Run` with the names and parameters of Azure ML's.

    Parameters
    ----------
    experiment, run_id
        An `Experiment` and the id of one of its runs; or a run's folder alone.
    """

    type = "azureml.scriptrun"
    of_studies: ClassVar[Callable[[RunFolder], Run] | None] = None
    """Makes a study's run (`hpctf.azureml.hyperdrive`)."""

    def __init__(
        self, experiment: Any, run_id: str | None = None, outputs: object = None, **kwargs: Any
    ) -> None:
        if run_id is not None:
            experiment = find_run(runs_root_of(experiment.workspace.site), run_id)
        super().__init__(experiment)

    @staticmethod
    def get_context(
        allow_offline: bool = True, used_for_context_manager: bool = False, **kwargs: Any
    ) -> RunContext:
        """Return the run that this very process belongs to."""
        return run.Run.get_context(allow_offline)

    @staticmethod
    def get(workspace: OfSite, run_id: str) -> Run:
        """Return a run by its id."""
        return Run(find_run(runs_root_of(workspace.site), run_id))

    @staticmethod
    def list(
        experiment: Any,
        type: str | None = None,
        tags: Labels = None,
        properties: Labels = None,
        status: str | None = None,
        include_children: bool = False,
    ) -> Iterator[Run | ChildRun]:
        """Yield an experiment's runs, the latest first."""
        found: Iterator[Run | ChildRun]
        found = experiment._runs(tags, properties, include_children, status)
        return found

    @property
    def name(self) -> str:
        """The run's id."""
        return self.id

    @property
    def parent(self) -> Run | None:
        """The study that the run is a trial of; None if it is not one."""
        study = self.folder.study
        make = type(self).of_studies
        return None if study is None or make is None else make(study)

    @property
    def display_name(self) -> str:
        """The run's id."""
        return self.id

    @display_name.setter
    def display_name(self, value: str) -> None:
        raise NotHere(
            "Run.display_name cannot be set in hpctf: it is the run's id.",
            "Give the run a tag: run.tag('name', value).",
        )

    @property
    def experiment(self) -> azureml_run.Experiment:
        """The experiment's name, with the attribute ``name``."""
        return azureml_run.Experiment(super().experiment)

    @property
    def number(self) -> int:
        """A number that grows from run to run: when it was submitted, in milliseconds."""
        return azureml_run.number_of(self.id)

    @property
    def tags(self) -> dict[str, Any]:
        """The run's tags."""
        return self.get_tags()

    @property
    def properties(self) -> dict[str, Any]:
        """The run's properties."""
        return self.get_properties()

    def add_properties(self, properties: Mapping[str, Any]) -> None:
        """Give the run properties.

        Raises
        ------
        UsageError
            It has one of them already, with another value.
        """
        before = self.get_properties()
        for key, value in properties.items():
            if key in before and str(before[key]) != str(value):
                raise UsageError(
                    f"Run {self.id} has the property {shown(key)} already, with the value "
                    f"{shown(before[key])}: properties never change.",
                    "Use a tag for what changes: run.tag(key, value).",
                )
        super().add_properties(properties)

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

    def get_details(self) -> dict[str, Any]:
        """Return hpctf's details, and with Azure ML's names id, state, target, tags, properties,
        logs, and what was requested: ``details["runDefinition"]["arguments"]``."""
        details = super().get_details()
        request = self.folder.read_record().get("request") or {}
        definition = {
            "script": request.get("entry_script"),
            "arguments": list(request.get("arguments") or []),
            "target": self.plan["target"],
            "nodeCount": sum(component["nodes"] for component in self.plan["components"]),
        }
        return {
            "runDefinition": definition,
            "runId": self.id,
            "status": details["state"],
            "target": self.plan["target"],
            "properties": self.get_properties(),
            "tags": self.get_tags(),
            "logFiles": {name: str(self.folder.path / name) for name in self._logs()},
            **details,
        }

    def get_details_with_logs(self) -> dict[str, Any]:
        """Return the details, and the text of each log by its name."""
        texts = {}
        for name in self._logs():
            with open_of_run(self.folder.path / name) as stream:
                texts[name] = stream.read().decode("utf-8", "replace")
        return {**self.get_details(), "logFiles": texts}

    def get_all_logs(self, destination: str | None = None) -> Sequence[str]:
        """Copy all logs to a folder, by default the current one, and return where they are."""
        top = Path(destination or ".")
        return [str(copy_file(self.folder, name, top / name)) for name in self._logs()]

    def get_metrics(
        self,
        name: str | None = None,
        recursive: bool = False,
        run_type: object = None,
        populate: bool = False,
    ) -> dict[str, Any]:
        """Return what was logged, by name; with `recursive` by child run's id, too."""
        metrics = super().get_metrics(name)
        for child in self.get_children() if recursive else ():
            metrics[child.id] = child.get_metrics(name)
        return metrics

    def get_children(  # type: ignore[override]
        self,
        recursive: bool = False,
        tags: Labels = None,
        properties: Labels = None,
        type: str | None = None,
        status: str | None = None,
    ) -> Iterator[ChildRun]:
        """Yield the child runs that have these tags, properties and status."""
        for child in map(ChildRun.of, super().get_children()):
            if has_labels(child, tags, properties) and status in (None, child.status):
                yield child

    def download_file(
        self, name: str, output_file_path: Any = None, _validate_checksum: bool = False
    ) -> Path:
        """Copy one of `get_file_names` to a file or folder, by default the current one."""
        return super().download_file(name, output_file_path or ".")

    def download_files(  # type: ignore[override]
        self,
        prefix: str | None = None,
        output_directory: str | None = None,
        output_paths: Sequence[str] | None = None,
        batch_size: int = 100,
        append_prefix: bool = True,
        timeout_seconds: int | None = None,
    ) -> None:
        """Copy every file whose name begins with `prefix`, by default to the current folder.

        Parameters
        ----------
        output_paths
            The copies' own names, in the order of the files'.
        append_prefix
            Whether the copies' names keep the prefix.
        """
        names = [name for name in self.get_file_names() if name.startswith(prefix or "")]
        if output_paths is not None and len(output_paths) != len(names):
            raise UsageError(
                f"download_files() got {len(output_paths)} output_paths for {len(names)} files.",
                f"Name one for each: {', '.join(names)}",
            )
        top = Path(output_directory or ".")
        for position, name in enumerate(names):
            below = name if append_prefix else name[len(prefix or "") :].lstrip("/")
            target = output_paths[position] if output_paths else below or Path(name).name
            copy_file(self.folder, name, top / target)

    def upload_file(
        self, name: str, path_or_stream: Any, datastore_name: str | None = None
    ) -> None:
        """Keep a copy of a file, or of what a stream holds, with the run."""
        artifacts.keep_file(str(self.folder.path), name, path_or_stream)

    def upload_files(
        self,
        names: Sequence[str],
        paths: Sequence[str],
        return_artifacts: bool = False,
        timeout_seconds: int | None = None,
        datastore_name: str | None = None,
    ) -> None:
        """Keep copies of files with the run, each under its own name."""
        if len(names) != len(paths):
            raise UsageError(
                f"upload_files() got {len(names)} names and {len(paths)} paths.",
                "Give each path a name.",
            )
        for name, path in zip(names, paths, strict=True):
            self.upload_file(name, path)

    def upload_folder(self, name: str, path: str, datastore_name: str | None = None) -> None:
        """Keep copies of all files below a folder with the run."""
        artifacts.keep_folder(str(self.folder.path), name, path)

    def log_image(
        self, name: str, path: str | None = None, plot: Any = None, description: str = ""
    ) -> None:
        """Keep an image, or a figure of matplotlib's, as ``images/<name>_<time>.png``."""
        if (path is None) == (plot is None):
            raise UsageError(f"log_image({name!r}, ...) takes either a path or a plot.")
        ending = ".png" if path is None else artifacts.split_ending(path)[1]
        kept = artifacts.image_name(name, int(time.time() * 1000), "", ending)
        if path is None:
            artifacts.save_figure(str(self.folder.path), kept, plot)
        else:
            artifacts.keep_file(str(self.folder.path), kept, path)

    def register_model(
        self,
        model_name: str,
        model_path: str | None = None,
        tags: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        description: str | None = None,
        datasets: Pairs = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: ResourceConfiguration | None = None,
        **kwargs: Any,
    ) -> Model:
        """Register a file or folder of the run as the next version of a model, and return it."""
        about = about_of(
            tags,
            properties,
            description,
            (model_framework, model_framework_version),
            datasets,
            (sample_input_dataset, sample_output_dataset),
            resource_configuration,
        )
        return Model.of_run(self.folder, model_name, model_path, about)

    def restore_snapshot(self, snapshot_id: str | None = None, path: str | None = None) -> str:
        """Copy the run's code to a folder, and return it."""
        target, top = Path(path or self.id), str(self.folder.snapshot)

        def outputs(folder: str, _: object) -> Sequence[str]:
            return ["outputs"] if folder == top else []

        shutil.copytree(top, target, symlinks=True, ignore=outputs, dirs_exist_ok=True)
        return str(target)

    def get_portal_url(self) -> str:
        """Return where the run lies: a cluster has no portal."""
        return self.folder.path.as_uri()

    def _get_outputs_datapath(self) -> DataPath:
        """Return where the outputs are, for ``resume_from``."""
        return DataPath(None, str(self.folder.outputs), "MODEL_LOCATION")

    def _logs(self) -> Sequence[str]:
        return [name for name in self.get_file_names() if name.startswith("logs/")]


Model.open_run = Run


@refuses("RunDetails")
class RunDetails:
    """What ``azureml.widgets`` shows of a run; `hpctf watch` follows it in a terminal."""

    def __init__(self, run_instance: Run) -> None:
        self.run = run_instance

    def show(self, render_lib: object = None, widget_settings: object = None) -> None:
        """Show the run's widget in a notebook; elsewhere print its state."""
        self.run.show()
