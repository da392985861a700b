"""Azure ML's workspace: a site."""

from __future__ import annotations

import os
from typing import Any

from hpctf.azureml.compute import ComputeTarget
from hpctf.azureml.datasets import Dataset, FileDataset
from hpctf.azureml.datastore import Datastore
from hpctf.azureml.experiments import Experiment
from hpctf.azureml.models import Model
from hpctf.azureml.refusing import OfSite, refuses
from hpctf.azureml.runs import Run
from hpctf.azureml.webservices import Webservice, by_name
from hpctf.site.loading import load_site
from hpctf.site.model import Site

NONE = "none"
"""What a workspace says of itself that a site has not: notebooks print it."""


@refuses("Keyvault")
class Keyvault:
    """Refused, name by name: a cluster has no key vault."""

    def __init__(self, workspace: OfSite) -> None:
        self.workspace = workspace


@refuses("Workspace")
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
        self.subscription_id = subscription_id or NONE
        self.resource_group = resource_group or NONE
        self.tags: dict[str, str] = {}

    def __repr__(self) -> str:
        return f"Workspace(site={self.name!r})"

    @classmethod
    def from_config(cls, *args: Any, **kwargs: Any) -> Workspace:
        """Return the workspace; no config.json is needed or read."""
        return cls()

    @classmethod
    def get(
        cls,
        name: str = "",
        auth: object = None,
        subscription_id: str | None = None,
        resource_group: str | None = None,
        *args: Any,
        **kwargs: Any,
    ) -> Workspace:
        """Return the workspace."""
        return cls(subscription_id, resource_group)

    def write_config(self, path: str | None = None, file_name: str | None = None) -> None:
        """Return at once: `from_config` needs no file."""

    @property
    def name(self) -> str:
        """The site's name."""
        return self.site.name

    @property
    def location(self) -> str:
        """This machine's name."""
        return os.uname().nodename

    def get_details(self) -> dict[str, Any]:
        """Return name, location and what it was called with."""
        return {
            "name": self.name,
            "location": self.location,
            "subscriptionId": self.subscription_id,
            "resourceGroup": self.resource_group,
        }

    @property
    def compute_targets(self) -> dict[str, ComputeTarget]:
        """The site's compute targets by name."""
        return {target.name: target for target in ComputeTarget.list(self)}

    def get_default_compute_target(self, type: str = "CPU") -> ComputeTarget:
        """Return the site's default target."""
        return ComputeTarget(self, self.site.default_target)

    @property
    def experiments(self) -> dict[str, Experiment]:
        """The experiments that have runs, by name."""
        return {one.name: one for one in Experiment.list(self)}

    def get_run(self, run_id: str) -> Run:
        """Return a run by its id."""
        return Run.get(self, run_id)

    def get_default_datastore(self) -> Datastore:
        """Return the datastore: a folder in the runs root."""
        return Datastore(self)

    @property
    def datastores(self) -> dict[str, Datastore]:
        """The datastore by its name."""
        return {Datastore(self).name: Datastore(self)}

    @property
    def datasets(self) -> dict[str, FileDataset]:
        """The data sets that were registered in this Python session."""
        return Dataset.get_all(self)

    @property
    def webservices(self) -> dict[str, Webservice]:
        """All services by their names."""
        return by_name(self)

    @property
    def models(self) -> dict[str, Model]:
        """The latest version of each registered model, by name."""
        return {model.name: model for model in Model.list(self, latest=True)}

    def get_default_keyvault(self) -> Keyvault:
        """Return what refuses secrets, and says how scripts get them."""
        return Keyvault(self)
