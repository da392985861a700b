"""Azure ML's registered models, as notebooks and scripts use them."""

from __future__ import annotations

import datetime
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

from hpctf import model
from hpctf.azureml.datasets import FileDataset
from hpctf.azureml.refusing import OfSite, refuses
from hpctf.azureml.webservices import InferenceConfig, Webservice, deployed
from hpctf.errors import ModelNotFound, UsageError, shown
from hpctf.models import sources
from hpctf.models.registry import About, registry_of
from hpctf.run_folder.layout import RunFolder
from hpctf.serving.deploy import Deployment
from hpctf.site.loading import load_site

Pairs = Sequence[tuple[str, Any]] | None
"""Data sets of a model, each with what it is to it: ``[("training data", dataset)]``."""


class ResourceConfiguration:
    """What a model needs to be served: CPUs, memory in GB, GPUs."""

    def __init__(
        self,
        cpu: float | None = None,
        memory_in_gb: float | None = None,
        gpu: int | None = None,
    ) -> None:
        self.cpu, self.memory_in_gb, self.gpu = cpu, memory_in_gb, gpu

    def serialize(self) -> dict[str, Any]:
        """Return it under Azure ML's names."""
        return {"cpu": self.cpu, "memoryInGB": self.memory_in_gb, "gpu": self.gpu}


class Framework:
    """Azure ML's names of frameworks."""

    CUSTOM = "Custom"
    TENSORFLOW = "TensorFlow"
    SCIKITLEARN = "ScikitLearn"
    ONNX = "Onnx"
    TFKERAS = "TfKeras"
    PYTORCH = "PyTorch"
    MULTI = "Multi"


@refuses("Model")
class Model(model.Model):
    """`hpctf.Model` with the names and parameters of Azure ML's.

    Parameters
    ----------
    name, id, version
        The model's name, or ``name:version``; without a version the latest that fits is meant.
    tags, properties, run_id, model_framework
        What it must have.

    Raises
    ------
    ModelNotFound
        There is none.
    """

    Framework = Framework
    open_run: ClassVar[Callable[[RunFolder], Any]]
    """Returns a run of its folder; set by `hpctf.azureml.runs`, which stands above."""

    mime_type = "application/x-python"
    parent_id = None
    unpack = False
    workspace: OfSite | None = None

    def __init__(
        self,
        workspace: OfSite,
        name: str | None = None,
        id: str | None = None,
        tags: model.Labels = None,
        properties: model.Labels = None,
        version: int | None = None,
        run_id: str | None = None,
        model_framework: str | None = None,
        expand: bool = True,
        **kwargs: Any,
    ) -> None:
        wanted = id or name
        if wanted is None:
            raise UsageError("Model() needs the model's name or its id: Model(ws, name='digits').")
        self.workspace = workspace
        asked = (tags, properties, run_id, model_framework)
        if not any(asked) or version is not None or ":" in wanted or "@" in wanted:
            super().__init__(wanted, version, site=workspace.site)
            return
        found = Model.list(
            workspace, wanted, tags, properties, run_id, model_framework=model_framework
        )
        if not found:
            raise ModelNotFound(
                f"No version of model {wanted!r} matches the request.",
                f"hpctf models list {wanted}",
            )
        self._use(found[0]._registry, found[0].folder)

    @property
    def url(self) -> str:
        """Where it lies."""
        return self.folder.path.as_uri()

    @property
    def created_by(self) -> dict[str, Any]:
        """Who registered it."""
        return {"userName": self.record.user}

    @property
    def created_time(self) -> datetime.datetime:
        """When it was registered."""
        return datetime.datetime.fromtimestamp(self.record.registered, datetime.timezone.utc)

    @property
    def model_framework(self) -> str | None:
        """Its framework."""
        return self.record.framework

    @property
    def model_framework_version(self) -> str | None:
        """The framework's version."""
        return self.record.framework_version

    @property
    def experiment_name(self) -> str | None:
        """The experiment of the run that made it."""
        return None if self.record.run is None else self.record.run.experiment

    @property
    def run(self) -> Any:
        """The run that made it; None if there is none, or it was removed."""
        of = self.record.run
        folder = None if of is None else RunFolder(Path(of.folder))
        if folder is None or not os.path.lexists(folder.record_file):
            return None
        return Model.open_run(folder)

    @property
    def sample_input_dataset(self) -> str | None:
        """The path of its sample of inputs."""
        return self.record.sample_input

    @property
    def sample_output_dataset(self) -> str | None:
        """The path of its sample of outputs."""
        return self.record.sample_output

    @property
    def resource_configuration(self) -> ResourceConfiguration | None:
        """What it was said to need to be served."""
        needs = self.record.resources
        if needs is None:
            return None
        return ResourceConfiguration(needs.get("cpu"), needs.get("memoryInGB"), needs.get("gpu"))

    @property
    def datasets(self) -> dict[str, list[str]]:
        """The paths of the data sets that were named, by what each is to the model."""
        return dict(self.record.datasets)

    @staticmethod
    def register(  # type: ignore[override]
        workspace: OfSite,
        model_path: str,
        model_name: str,
        tags: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
        description: str | None = None,
        datasets: Pairs = None,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        child_paths: Sequence[str] | None = None,
        sample_input_dataset: Any = None,
        sample_output_dataset: Any = None,
        resource_configuration: ResourceConfiguration | None = None,
    ) -> Model:
        """Register a file or folder as the next version of a model."""
        print(f"Registering model {model_name}")
        about = about_of(
            tags,
            properties,
            description,
            (model_framework, model_framework_version),
            datasets,
            (sample_input_dataset, sample_output_dataset),
            resource_configuration,
        )
        registry = registry_of(workspace.site)
        source = sources.of_path(model_path, child_paths)
        return Model.of(registry, registry.register(model_name, source, about))

    @staticmethod
    def list(  # type: ignore[override]
        workspace: OfSite,
        name: str | None = None,
        tags: model.Labels = None,
        properties: model.Labels = None,
        run_id: str | None = None,
        latest: bool = False,
        dataset_id: str | None = None,
        expand: bool = True,
        page_count: int = 255,
        model_framework: str | None = None,
    ) -> list[Model]:
        """Return the models that have all this, the latest version of each first."""
        found = model.Model.list(
            name,
            tags,
            properties,
            run_id,
            latest,
            model_framework=model_framework,
            site=workspace.site,
        )
        return [
            Model.of(one._registry, one.folder)
            for one in found
            if dataset_id is None or [dataset_id] in one.record.datasets.values()
        ]

    @staticmethod
    def get_model_path(  # type: ignore[override]
        model_name: str, version: int | None = None, _workspace: OfSite | None = None
    ) -> str:
        """Return where a model's file or folder lies, once its checksums have been verified.

        As in Azure ML, what has its name in the current folder is returned if no model has it.
        """
        site = load_site(None) if _workspace is None else _workspace.site
        try:
            return model.Model.get_model_path(model_name, version, site=site)
        except ModelNotFound:
            if version is None and os.path.exists(model_name):
                return model_name
            raise

    def download(
        self,
        target_dir: str | os.PathLike[str] = ".",
        exist_ok: bool = False,
        exists_ok: bool | None = None,
    ) -> str:
        """Copy its file or folder into a folder, and return where it lies now."""
        return super().download(target_dir, exist_ok if exists_ok is None else exists_ok)

    def update(
        self,
        tags: Mapping[str, Any] | None = None,
        description: str | None = None,
        sample_input_dataset: object = None,
        sample_output_dataset: object = None,
        resource_configuration: object = None,
    ) -> None:
        """Replace all its tags, or its description."""
        if (sample_input_dataset, sample_output_dataset, resource_configuration) != (None,) * 3:
            raise UsageError(
                "Model.update() changes tags and the description alone in hpctf: samples and "
                "resources belong to a version as it was registered.",
                "Register the model again with them.",
            )
        super().update(tags, description)

    def update_tags_properties(
        self,
        add_tags: Mapping[str, Any] | None = None,
        remove_tags: str | Sequence[str] | None = None,
        add_properties: Mapping[str, Any] | None = None,
    ) -> None:
        """Set tags and take some away, and add properties, all at once or not at all."""
        gone = [remove_tags] if isinstance(remove_tags, str) else remove_tags or ()
        self._change(
            tags=model.checked(add_tags or {}),
            without_tags=gone,
            properties=model.checked(add_properties or {}, "property"),
        )

    @staticmethod
    def deploy(  # type: ignore[override]
        workspace: OfSite,
        name: str,
        models: Sequence[Any],
        inference_config: InferenceConfig | None = None,
        deployment_config: Deployment | None = None,
        deployment_target: object = None,
        overwrite: bool = False,
        show_output: bool = False,
    ) -> Webservice:
        """Deploy models as a service: a Slurm job, or a local process."""
        return deployed(
            workspace, name, models, inference_config, deployment_config, overwrite, show_output
        )

    def serialize(self) -> dict[str, Any]:
        """Return what is known of it under Azure ML's names."""
        labels = self.folder.labels()
        return {
            "createdTime": self.created_time.isoformat(),
            "createdBy": self.created_by,
            "description": labels.description,
            "id": self.id,
            "mimeType": self.mime_type,
            "name": self.name,
            "framework": self.model_framework,
            "frameworkVersion": self.model_framework_version,
            "tags": labels.tags,
            "properties": labels.properties,
            "unpack": False,
            "url": self.url,
            "version": self.version,
            "experimentName": self.experiment_name,
            "runId": self.run_id,
            "runDetails": str(self.run),
            "datasets": [
                {"name": what, "id": path}
                for what, paths in self.record.datasets.items()
                for path in paths
            ],
            "resourceConfiguration": self.record.resources,
            "sampleInputDatasetId": self.record.sample_input,
            "sampleOutputDatasetId": self.record.sample_output,
        }


def about_of(
    tags: Mapping[str, Any] | None,
    properties: Mapping[str, Any] | None,
    description: str | None,
    framework: tuple[str | None, str | None],
    datasets: Pairs,
    samples: tuple[Any, Any] = (None, None),
    resources: ResourceConfiguration | None = None,
) -> About:
    """Return what is said of a model, as Azure ML's parameters have it."""
    if framework[1] is not None and framework[0] is None:
        raise UsageError(
            "model_framework_version needs model_framework, such as Model.Framework.TENSORFLOW."
        )
    named: dict[str, list[str]] = {}
    for what, data in datasets or ():
        named.setdefault(str(what), []).append(_path_of(data))
    given = [None if sample is None else _path_of(sample) for sample in samples]
    return model.about_of(
        tags,
        properties,
        description,
        *framework,
        datasets=named,
        sample_input=given[0],
        sample_output=given[1],
        resources=None if resources is None else resources.serialize(),
    )


def _path_of(data: Any) -> str:
    """Return where a data set lies: it is named by its path."""
    if isinstance(data, FileDataset):
        return " ".join(map(str, data.places))
    if isinstance(data, (str, os.PathLike)):
        return os.fspath(data)
    raise UsageError(
        f"A model's data set is {shown(data)}, but must be a path, or one of "
        "Dataset.File.from_files('/path')."
    )
