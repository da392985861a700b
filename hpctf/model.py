"""A registered model: a version of it, found by name, number or alias."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from hpctf.common.notes import notify
from hpctf.common.secrets import public
from hpctf.common.trusted_path import check_chosen
from hpctf.errors import UsageError
from hpctf.models import files, sources
from hpctf.models.labels import change
from hpctf.models.names import check_model_name, reference
from hpctf.models.registry import About, Registry, registry_of
from hpctf.models.version import Version
from hpctf.tracking.metrics import checked_tags

if TYPE_CHECKING:
    from hpctf.run_folder.layout import RunFolder
    from hpctf.serving.deploy import Deployment, InferenceConfig
    from hpctf.site.model import Site
    from hpctf.webservice import Webservice

Labels = Mapping[str, Any] | Sequence[Any] | None
"""Tags or properties to look for: a mapping, or Azure ML's list of keys and [key, value]."""


_Model = TypeVar("_Model", bound="Model")


class Model:
    """A version of a registered model (docs/models.md).

        from hpctf import Model

        model = Model("digits@champion")
        keras.saving.load_model(model.path)

    Parameters
    ----------
    name
        ``digits``, ``digits:3`` or ``digits@champion``; without a version the latest is meant.
    version
        The number, or ``@alias``, where the name does not say it.
    site
        A site's name, the path of its YAML file, or a `Site`; by default HPCTF_SITE.
    models_root
        Folder of all models; by default HPCTF_MODELS_ROOT, else what the site says.

    Raises
    ------
    ModelNotFound
        There is no such model, version or alias.
    """

    def __init__(
        self,
        name: str,
        version: int | str | None = None,
        *,
        site: Site | str | None = None,
        models_root: str | os.PathLike[str] | None = None,
    ) -> None:
        registry = registry_of(site, models_root)
        self._use(registry, registry.find(reference(name, version)))

    def _use(self, registry: Registry, version: Version) -> None:
        self._registry = registry
        self.folder = version
        self.record = version.record

    @classmethod
    def of(cls: type[_Model], registry: Registry, version: Version) -> _Model:
        """Return the model that a version in a registry is."""
        model = cls.__new__(cls)
        model._use(registry, version)
        return model

    def __repr__(self) -> str:
        return f"Model(name={self.name!r}, version={self.version})"

    @property
    def registry(self) -> Registry:
        """The registry that it is in."""
        return self._registry

    @property
    def name(self) -> str:
        """The model's name."""
        return self.folder.name

    @property
    def version(self) -> int:
        """The version's number, from 1 on."""
        return self.folder.number

    @property
    def id(self) -> str:
        """Name and version: ``digits:3``."""
        return self.folder.id

    @property
    def description(self) -> str | None:
        """What people say of it."""
        return self.folder.labels().description

    @property
    def tags(self) -> dict[str, Any]:
        """Its tags."""
        return self.folder.labels().tags

    @property
    def properties(self) -> dict[str, Any]:
        """Its properties: they are added to, and never change."""
        return self.folder.labels().properties

    @property
    def aliases(self) -> list[str]:
        """The aliases that stand for this version."""
        known = self._registry.aliases(self.name)
        return [alias for alias, number in known.items() if number == self.version]

    @property
    def run_id(self) -> str | None:
        """The run that made it, which may have been removed since; None without one."""
        return None if self.record.run is None else self.record.run.id

    @property
    def metrics(self) -> dict[str, Any]:
        """What its run had logged, as `hpctf.Run.get_metrics` returns it."""
        return self.folder.metrics()

    @property
    def path(self) -> Path:
        """Where its file or folder lies, once its checksums have been verified.

        Raises
        ------
        UnreadableModel
            A file is not what was registered.
        UntrustedPath
            Every user of the machine may exchange it.
        """
        found = self.folder.verified()
        note = check_chosen(found, f"Model {self.id}", self._registry.trusted)
        if note is not None:
            notify(note)
        return found

    def get_details(self) -> dict[str, Any]:
        """Return all that is known of it, ready for JSON."""
        labels = self.folder.labels()
        return {
            **asdict(self.record),
            **asdict(labels),
            "id": self.id,
            "version": self.version,
            "aliases": self.aliases,
            "bytes": self.record.bytes,
            "model_folder": str(self.folder.path),
            "model_path": str(self.folder.path / files.FILES / self.record.path),
        }

    @classmethod
    def register(
        cls,
        model_path: str | os.PathLike[str],
        model_name: str,
        tags: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
        description: str | None = None,
        *,
        model_framework: str | None = None,
        model_framework_version: str | None = None,
        child_paths: Sequence[str] | None = None,
        site: Site | str | None = None,
        models_root: str | os.PathLike[str] | None = None,
    ) -> Model:
        """Register a file or folder that belongs to no run as the next version of a model.

        Parameters
        ----------
        child_paths
            Of a folder, the files and folders that belong to the model; by default all.

        Raises
        ------
        UsageError
            The path does not exist, or the name is not valid.
        RunFolderError
            The file system refuses.
        """
        about = about_of(tags, properties, description, model_framework, model_framework_version)
        registry = registry_of(site, models_root)
        source = sources.of_path(model_path, child_paths)
        return cls.of(registry, registry.register(model_name, source, about))

    @classmethod
    def of_run(
        cls: type[_Model],
        run: RunFolder,
        model_name: str,
        model_path: str | None = None,
        about: About | None = None,
        *,
        site: Site | str | None = None,
        models_root: str | os.PathLike[str] | None = None,
    ) -> _Model:
        """Register what a run has kept (`hpctf.Run.register_model`)."""
        registry = registry_of(site, models_root)
        made = registry.register_run(model_name, run, model_path or model_name, about or About())
        return cls.of(registry, made)

    @classmethod
    def list(
        cls,
        name: str | None = None,
        tags: Labels = None,
        properties: Labels = None,
        run_id: str | None = None,
        latest: bool = False,
        *,
        model_framework: str | None = None,
        site: Site | str | None = None,
        models_root: str | os.PathLike[str] | None = None,
    ) -> list[Model]:
        """Return the versions of all models, or of one: by name, the latest first.

        Parameters
        ----------
        tags, properties
            What they must have: ``{"stage": "final"}``, or ``["stage", ["lr", "0.1"]]``.
        latest
            Whether only each model's latest version is looked at.
        """
        registry = registry_of(site, models_root)
        found = []
        for version in registry.readable(None if name is None else check_model_name(name)):
            model = cls.of(registry, version)
            if latest and version.number != registry.numbers(version.name)[-1]:
                continue
            if run_id not in (None, model.run_id):
                continue
            if model_framework not in (None, model.record.framework):
                continue
            if _has(tags, model.tags) and _has(properties, model.properties):
                found.append(model)
        return found

    @classmethod
    def get_model_path(
        cls,
        model_name: str,
        version: int | str | None = None,
        *,
        site: Site | str | None = None,
        models_root: str | os.PathLike[str] | None = None,
    ) -> str:
        """Return `path` of a model as text."""
        return str(cls(model_name, version, site=site, models_root=models_root).path)

    def download(self, target_dir: str | os.PathLike[str] = ".", exist_ok: bool = False) -> str:
        """Copy its file or folder into a folder, verified, and return where it lies now.

        Raises
        ------
        UsageError
            Something of that name is there, and `exist_ok` is not set.
        UnreadableModel
            A file is not what was registered.
        """
        return str(self.folder.copy_to(Path(target_dir), exist_ok))

    def add_tags(self, tags: Mapping[str, Any]) -> None:
        """Give it tags, or tags other values."""
        self._change(tags=checked(tags))

    def remove_tags(self, tags: str | Sequence[str]) -> None:
        """Take tags away."""
        self._change(without_tags=[tags] if isinstance(tags, str) else tags)

    def add_properties(self, properties: Mapping[str, Any]) -> None:
        """Give it properties.

        Raises
        ------
        UsageError
            It has one of them already, with another value.
        """
        self._change(properties=checked(properties, "property"))

    def update(self, tags: Mapping[str, Any] | None = None, description: str | None = None) -> None:
        """Replace all its tags, or its description."""
        gone = [] if tags is None else [tag for tag in self.tags if tag not in tags]
        self._change(tags=checked(tags or {}), without_tags=gone, description=_text(description))

    def _change(self, **what: Any) -> None:
        self.folder.change(change(**what), self._registry.umask)

    def set_alias(self, alias: str) -> None:
        """Let an alias, such as ``champion``, stand for this version from now on."""
        self._registry.set_alias(self.folder, alias)

    def remove_alias(self, alias: str) -> None:
        """Remove an alias of the model's; its version stays."""
        self._registry.remove_alias(self.name, alias)

    @staticmethod
    def deploy(
        name: str,
        models: Sequence[Any],
        inference_config: InferenceConfig | None = None,
        deployment_config: Deployment | None = None,
        overwrite: bool = False,
        *,
        site: Site | str | None = None,
    ) -> Webservice:
        """Deploy models as a service, and return it (`hpctf.webservice.deploy_service`).

        Parameters
        ----------
        models
            Each a `Model`, or a name such as ``digits@champion``.
        inference_config
            An entry script; without one ONNX models are served as they are.
        deployment_config
            `hpctf.LocalWebservice.deploy_configuration`, or `hpctf.SlurmWebservice`'s.
        overwrite
            Whether a service of that name is ended first.
        """
        from hpctf.webservice import deploy_service

        return deploy_service(
            name, models, inference_config, deployment_config, overwrite, site=site
        )

    def delete(self) -> None:
        """Remove this version; its number is never given to another one.

        Raises
        ------
        UsageError
            It belongs to somebody else, has an alias, or a service of yours serves it.
        """
        from hpctf.serving.record import services_root
        from hpctf.serving.uses import reason_to_stay

        reason = reason_to_stay(self.folder.path, services_root())
        if reason is not None:
            raise UsageError(f"Model {self.id} must stay: {reason}.")
        self._registry.remove(self.folder)


def about_of(
    tags: Mapping[str, Any] | None = None,
    properties: Mapping[str, Any] | None = None,
    description: str | None = None,
    framework: str | None = None,
    framework_version: str | None = None,
    **more: Any,
) -> About:
    """Return what is said of a model, checked, and without secrets: who may read it sees that."""
    return About(
        framework=framework,
        framework_version=None if framework_version is None else str(framework_version),
        description=_text(description),
        tags=checked(tags or {}),
        properties=checked(properties or {}, "property"),
        **more,
    )


def checked(labels: Mapping[str, Any], kind: str = "tag") -> dict[str, Any]:
    """Return tags or properties as JSON has them, and as whoever may read the model sees them."""
    found: dict[str, Any] = public(checked_tags(labels, kind))
    return found


def _text(text: str | None) -> str | None:
    return None if text is None else str(public(str(text)))


def _has(wanted: Labels, labels: Mapping[str, Any]) -> bool:
    """Whether labels are there, with their values where these are named, too."""
    if isinstance(wanted, Mapping):
        wanted = [[key, value] for key, value in wanted.items()]
    for one in [wanted] if isinstance(wanted, str) else wanted or ():
        key, value = (one, None) if isinstance(one, str) else (one[0], one[1])
        if key not in labels or value not in (None, labels[key], str(labels[key])):
            return False
    return True
