"""Azure ML's services, as notebooks and scripts deploy and call them: Slurm jobs, or local
processes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpctf import webservice
from hpctf.azureml.environment import CondaDependencies, Environment
from hpctf.azureml.refusing import OfSite
from hpctf.common.notes import notify
from hpctf.environment.build import ensure
from hpctf.environment.progress import telling
from hpctf.environment.resolve import SoftwareRequest, spec_for
from hpctf.errors import UsageError
from hpctf.estimator.software import PACKAGES
from hpctf.planning.resources import Resources
from hpctf.serving import deploy
from hpctf.serving.record import find_service, services_root
from hpctf.site.model import Site

_STATES = {"ready": "Healthy", "waiting": "Transitioning", "starting": "Transitioning"}
"""Azure ML's words for a service's states; all others are ``Failed``."""


class InferenceConfig:
    """Azure ML's entry script and its environment, which hpctf builds as for training.

    Parameters
    ----------
    entry_script, source_directory
        The script, and the folder that goes with it and that it is seen from.
    environment
        An `Environment`; `conda_file` is one of its packages. None: hpctf's own for serving, with
        numpy and onnxruntime.
    """

    def __init__(
        self,
        entry_script: str,
        runtime: str | None = None,
        conda_file: str | None = None,
        extra_docker_file_steps: object = None,
        source_directory: str | None = None,
        enable_gpu: bool | None = None,
        description: str | None = None,
        base_image: str | None = None,
        base_image_registry: object = None,
        cuda_version: str | None = None,
        environment: Environment | None = None,
    ) -> None:
        for name, value in (
            ("extra_docker_file_steps", extra_docker_file_steps),
            ("base_image", base_image),
        ):
            if value is not None:
                raise UsageError(
                    f"InferenceConfig({name}=...) needs an image, but services run in none.",
                    "Name the packages: InferenceConfig(environment=Environment(...)).",
                )
        if conda_file is not None:
            environment = Environment("of-conda-file")
            environment.python.conda_dependencies = CondaDependencies(conda_file)
        self.entry_script = entry_script
        self.source_directory = source_directory
        self.description = description
        self.environment = environment

    def of_hpctf(self, site: Site) -> deploy.InferenceConfig:
        """Return hpctf's own; the environment is built if it is not there.

        Raises
        ------
        UsageError
            The environment is an image, or cannot be.
        BuildError
            It cannot be built.
        """
        python = None if self.environment is None else _python_of(self.environment, site)
        return deploy.InferenceConfig(self.entry_script, self.source_directory, python)


def _python_of(environment: Environment, site: Site) -> str | None:
    notes: list[str] = []
    with tempfile.TemporaryDirectory() as scratch:
        asked = environment.asked(Path(scratch), notes)
        for note in notes:
            notify(note)
        if asked.get("custom_docker_image"):
            raise UsageError(
                f"Environment {environment.name} is an image, but services run in none.",
                "Name its packages: Environment.from_pip_requirements(name, file).",
            )
        if asked.get("environment_variables"):
            raise UsageError(
                "environment_variables of a service's environment are not set.",
                "Set them in the script's init(): os.environ[...] = ...",
            )
        if asked.get("python") or asked.get("user_managed"):
            return str(asked.get("python") or shutil.which("python3"))
        packages = {name: asked[name] for name in PACKAGES if asked.get(name)}
        if not packages:
            return None
        spec = spec_for(SoftwareRequest(base=Path.cwd(), **packages), site)
    with telling() as tell:
        return str(ensure(spec, site, tell))


class Webservice(webservice.Webservice):
    """`hpctf.Webservice` with Azure ML's names.

    Parameters
    ----------
    workspace, name
        The workspace, and the service's name.
    """

    def __init__(self, workspace: OfSite, name: str) -> None:
        self._use(find_service(services_root(workspace.site), name))

    @staticmethod
    def list(workspace: OfSite, **kwargs: Any) -> list[Webservice]:  # type: ignore[override]
        """Return all services, by name."""
        found = webservice.Webservice.list(site=workspace.site)
        return [_of(Webservice, one) for one in found]

    @property
    def state(self) -> str:
        """``Healthy``, ``Transitioning`` or ``Failed``."""
        return _STATES.get(super().state, "Failed")

    @property
    def compute_type(self) -> str:
        """``LOCAL`` or ``SLURM``."""
        return "LOCAL" if self.folder.definition().is_local else "SLURM"

    def wait_for_deployment(
        self, show_output: bool = False, timeout_sec: float | None = None
    ) -> None:
        """Wait until it answers."""
        super().wait_for_deployment(show_output, timeout_sec)

    def update(  # type: ignore[override]
        self,
        *args: Any,
        models: Sequence[Any] | None = None,
        inference_config: InferenceConfig | None = None,
        **kwargs: Any,
    ) -> None:
        """Give it other models, or another entry script; what else is passed stays as it was."""
        site = self.folder.definition().of_site
        config = None if inference_config is None else inference_config.of_hpctf(site)
        super().update(models, config)

    def serialize(self) -> dict[str, Any]:
        """Return what is known of it under Azure ML's names."""
        details = self.get_details()
        return {
            "name": self.name,
            "state": self.state,
            "computeType": self.compute_type,
            "models": details["models"],
            "scoringUri": details["scoring_uri"],
            "swaggerUri": details["swagger_uri"],
            "error": details["error"],
        }


class LocalWebservice(Webservice):
    """A service that is a process of this machine."""

    @staticmethod
    def deploy_configuration(port: int | None = None) -> deploy.Deployment:
        """Return how it is deployed."""
        return webservice.LocalWebservice.deploy_configuration(port)

    def reload(self, wait: bool = True) -> None:
        """Start it anew."""
        self.update()
        if wait:
            self.wait_for_deployment()


class AciWebservice(Webservice):
    """A service of Azure's container instances: here a Slurm job of the site's default target."""

    @staticmethod
    def deploy_configuration(
        cpu_cores: float | None = None, memory_gb: float | None = None, **kwargs: Any
    ) -> deploy.Deployment:
        """Return how it is deployed: tokens and TLS are always on, and what else is passed is
        Azure's own."""
        cpus = None if cpu_cores is None else max(1, round(cpu_cores))
        memory = None if memory_gb is None else f"{max(1, round(memory_gb * 1024))}M"
        return deploy.Deployment(resources=Resources(cpus=cpus, mem=memory))


class AksWebservice(AciWebservice):
    """The same of Azure's Kubernetes."""


def deployed(
    workspace: OfSite,
    name: str,
    models: Sequence[Any],
    inference_config: InferenceConfig | None,
    deployment_config: deploy.Deployment | None,
    overwrite: bool,
    show_output: bool,
) -> Webservice:
    """Deploy models as a service, and return it."""
    config = None if inference_config is None else inference_config.of_hpctf(workspace.site)
    made = webservice.deploy_service(
        name, models, config, deployment_config, overwrite, site=workspace.site
    )
    found = _of(Webservice, made)
    if show_output:
        found.wait_for_deployment(True)
    return found


def by_name(workspace: OfSite) -> dict[str, Webservice]:
    """Return all services by their names."""
    return {service.name: service for service in Webservice.list(workspace)}


def _of(kind: type[Webservice], service: webservice.Webservice) -> Webservice:
    made = kind.__new__(kind)
    made._use(service.folder)
    return made


CLASSES = (InferenceConfig, Webservice, LocalWebservice, AciWebservice, AksWebservice)
