"""A service: a deployed model, called, watched, updated and ended."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from hpctf.common.files import tail
from hpctf.environment.progress import telling
from hpctf.errors import ServiceError, UsageError
from hpctf.models.registry import registry_of
from hpctf.models.version import Version
from hpctf.planning.resources import Resources
from hpctf.serving.client import Answer, Client, answering, check_goes_on
from hpctf.serving.deploy import Deployment, InferenceConfig, deploy, make_key, update
from hpctf.serving.instance import LOG
from hpctf.serving.record import ServiceFolder, all_services, find_service, services_root
from hpctf.serving.status import Status, of_latest, status_of, statuses_of, stop
from hpctf.site.loading import load_site

if TYPE_CHECKING:
    from hpctf.site.model import Site

_PAUSE_S = (0.05, 1.0)
"""Shortest and longest pause between two looks at a service that is not ready yet."""


class Webservice:
    """A service that has been deployed (docs/models.md).

        service = hpctf.Model.deploy("digits", [hpctf.Model("digits@champion")])
        service.wait_for_deployment()
        service.run({"data": [[0.0] * 64]})

    Parameters
    ----------
    name
        The service's name.
    site
        A site's name, the path of its YAML file, or a `Site`; by default HPCTF_SITE.

    Raises
    ------
    UsageError
        There is no such service.
    """

    def __init__(
        self,
        name: str,
        *,
        site: Site | str | None = None,
        runs_root: str | os.PathLike[str] | None = None,
    ) -> None:
        self._use(find_service(services_root(site, runs_root), name))

    def _use(self, folder: ServiceFolder) -> None:
        self.folder = folder
        self._client = Client(folder)

    @classmethod
    def of(cls, folder: ServiceFolder) -> Webservice:
        """Return the service that a folder is."""
        service = cls.__new__(cls)
        service._use(folder)
        return service

    def __repr__(self) -> str:
        return f"Webservice(name={self.name!r})"

    @classmethod
    def list(
        cls,
        *,
        site: Site | str | None = None,
        runs_root: str | os.PathLike[str] | None = None,
    ) -> list[Webservice]:
        """Return all services, by name."""
        return [cls.of(folder) for folder in all_services(services_root(site, runs_root))]

    @staticmethod
    def statuses(services: Sequence[Webservice]) -> Sequence[Status]:
        """Return how services are; Slurm is asked once for all."""
        return statuses_of([service.folder for service in services])

    @property
    def name(self) -> str:
        """The service's name."""
        return self.folder.name

    @property
    def state(self) -> str:
        """``waiting`` (in the queue), ``starting``, ``ready``, ``failed``, ``stopped``, ``gone``
        (it ended without a word), or ``unknown`` (Slurm does not answer)."""
        return status_of(self.folder).state

    @property
    def error(self) -> str | None:
        """Why it failed to start."""
        return status_of(self.folder).server.error

    @property
    def models(self) -> Sequence[str]:
        """Names and versions of its models."""
        return [*self.folder.definition().models]

    @property
    def uri(self) -> str:
        """Where it answers: ``https://host:port``.

        Raises
        ------
        RunFolderError
            It has not been ready yet.
        """
        return str(answering(self.folder).uri)

    @property
    def scoring_uri(self) -> str:
        """Where data is sent to be scored."""
        return f"{self.uri}/score"

    @property
    def swagger_uri(self) -> str:
        """Where its OpenAPI document is."""
        return f"{self.uri}/swagger.json"

    @property
    def fingerprint(self) -> str:
        """The SHA-256 fingerprint of its certificate, by which clients know it."""
        return str(answering(self.folder).fingerprint)

    def wait_for_deployment(
        self, show_output: bool = False, timeout_s: float | None = None
    ) -> None:
        """Wait until the service, or what it was updated to, answers.

        Raises
        ------
        ServiceError
            It failed, was stopped, or is not ready within `timeout_s`.
        """
        began = time.monotonic()
        shown = ""
        while True:
            status = of_latest(self.folder)
            if status.state != shown and show_output:
                print(f"{self.name}: {status.state}", flush=True)
            shown = status.state
            if shown == "ready":
                return
            if shown in ("failed", "stopped", "gone"):
                raise ServiceError(
                    f"Service {self.name} is not ready: it is {shown}. "
                    f"{status.server.error or self._last_words()}".rstrip(),
                    f"See its log: hpctf services logs {self.name}",
                )
            took = time.monotonic() - began
            if timeout_s is not None and took > timeout_s:
                raise ServiceError(
                    f"Service {self.name} is not ready after {timeout_s:g} s: it is {shown}.",
                    "It continues: wait again, or stop it: hpctf services stop " + self.name,
                )
            time.sleep(min(_PAUSE_S[1], max(_PAUSE_S[0], took / 60)))

    def _last_words(self) -> str:
        return " ".join(self.get_logs(3).splitlines())

    def run(self, input_data: Any) -> Any:
        """Send data to ``/score``, and return what comes back, from JSON.

        Parameters
        ----------
        input_data
            JSON as text or bytes, or what is written as JSON.

        Raises
        ------
        ServiceError
            The service refused it, or cannot be reached.
        """
        is_json = isinstance(input_data, (str, bytes))
        text = input_data if is_json else json.dumps(input_data)
        body = text.encode() if isinstance(text, str) else text
        answer = self.call("POST", "/score", body)
        return json.loads(answer.body)

    def call(self, method: str, path: str, body: bytes | None = None) -> Answer:
        """Send any request with the primary key, and return the answer.

        Raises
        ------
        ServiceError
            The service refused it, or cannot be reached.
        """
        headers = {"content-type": "application/json"} if body is not None else {}
        answer = self._client.call(method, path, body, headers)
        if answer.status >= 400:
            raise ServiceError(
                f"Service {self.name} answered {answer.status}: {_error_of(answer.body)}",
                "hpctf services logs shows what the service says.",
            )
        return answer

    def check_goes_on(self) -> None:
        """Refuse to go on with a service that has ended.

        Raises
        ------
        ServiceError
            It has.
        """
        check_goes_on(self.folder)

    def get_logs(self, num_lines: int = 5000) -> str:
        """Return the last lines of its latest server's log."""
        servers = self.folder.servers()
        return "\n".join(tail(servers[-1] / LOG, num_lines)) if servers else ""

    def get_keys(self) -> tuple[str, str]:
        """Return the primary and the secondary key. Each is accepted."""
        return self.folder.keys()

    def regen_key(self, key: str, set_key: str | None = None) -> None:
        """Make the ``Primary`` or the ``Secondary`` key anew, or set it. Within a second the old
        one is no longer accepted."""
        make_key(self.folder, key, set_key)

    def update(
        self, models: Sequence[Any] | None = None, inference_config: InferenceConfig | None = None
    ) -> None:
        """Give it other models, or another entry script: another server takes over once it is
        ready, and no request fails meanwhile.

        Parameters
        ----------
        models
            Each an `hpctf.Model`, or a name such as ``digits@champion``.
        """
        site = self.folder.definition().of_site
        versions = None if models is None else [version_of(model, site) for model in models]
        update(self.folder, versions, inference_config)

    def stop(self) -> None:
        """End it. Its folder stays, with its log."""
        self._client.close()
        stop(self.folder)

    def delete(self) -> None:
        """End it, and remove its folder."""
        self.stop()
        self.folder.remove()

    def get_details(self, status: Status | None = None) -> dict[str, Any]:
        """Return all that is known of it, ready for JSON.

        Parameters
        ----------
        status
            How it is, where that has been requested many services at once (`statuses`).
        """
        status = status or status_of(self.folder)
        definition = self.folder.definition()
        server, job = status.server, status.job
        return {
            "name": self.name,
            "state": status.state,
            "models": [*definition.models],
            "uri": server.uri,
            "scoring_uri": server.uri and f"{server.uri}/score",
            "swagger_uri": server.uri and f"{server.uri}/swagger.json",
            "fingerprint": server.fingerprint,
            "certificate": server.certificate,
            "tokens": str(self.folder.tokens),
            "runs_on": server.runs_on,
            "host": server.host,
            "pid": server.pid,
            "job_id": job and job.job_id,
            "error": server.error,
            "created": definition.created,
            "user": definition.user,
            "folder": str(self.folder.path),
        }


class LocalWebservice(Webservice):
    """A service that is a process of this machine, and answers it alone."""

    @staticmethod
    def deploy_configuration(port: int | None = None) -> Deployment:
        """Return how it is deployed: on a port, or by default on a free one of the site's range."""
        return Deployment(is_local=True, port=port)


class SlurmWebservice(Webservice):
    """A service that is a Slurm job."""

    @staticmethod
    def deploy_configuration(
        compute_target: str | None = None,
        *,
        time_s: int | None = None,
        cpu_cores: int | None = None,
        memory: str | None = None,
        stay_up: bool = False,
        use_gpu: bool | None = None,
        sbatch: dict[str, object] | None = None,
    ) -> Deployment:
        """Return how it is deployed.

        Parameters
        ----------
        compute_target
            A target of the site's; by default the site's own choice.
        time_s
            Seconds that each job may run.
        cpu_cores, memory
            What each job gets; memory as Slurm writes it (``4G``).
        stay_up
            Whether each job submits the next one before its time limit, and hands over to it.
        use_gpu
            Whether each job gets a GPU, on which ONNX models run; by default if the target has any.
        """
        asked = Resources(
            target=compute_target, time_s=time_s, cpus=cpu_cores, mem=memory, sbatch=sbatch or {}
        )
        return Deployment(resources=asked, stays_up=stay_up, use_gpu=use_gpu)


def deploy_service(
    name: str,
    models: Sequence[Any],
    inference_config: InferenceConfig | None = None,
    deployment_config: Deployment | None = None,
    overwrite: bool = False,
    *,
    site: Site | str | None = None,
    runs_root: str | os.PathLike[str] | None = None,
) -> Webservice:
    """Deploy models as a service (`hpctf.Model.deploy`)."""
    from hpctf.site.model import Site

    found = site if isinstance(site, Site) else load_site(site)
    versions = [version_of(model, found) for model in models]
    root = services_root(found, runs_root)
    with telling() as tell:
        folder = deploy(
            root,
            found,
            name,
            versions,
            inference_config,
            deployment_config,
            overwrite=overwrite,
            tell=tell,
        )
    return Webservice.of(folder)


def version_of(model: Any, site: Site) -> Version:
    """Return the version of a registered model: a `hpctf.Model`, or a name."""
    from hpctf.models.names import reference

    folder = getattr(model, "folder", None)
    if isinstance(folder, Version):
        return folder
    if not isinstance(model, str):
        raise UsageError(f"{model!r} is not a model: pass hpctf.Model('digits'), or its name.")
    return registry_of(site).find(reference(model))


def _error_of(body: bytes) -> str:
    """Return what is wrong in the words of the protocol, or of Azure ML's entry scripts."""
    try:
        said = json.loads(body)
        return str(said["error"] if "error" in said else said["message"])
    except (ValueError, LookupError, TypeError):
        return body[:300].decode("utf-8", "replace")
