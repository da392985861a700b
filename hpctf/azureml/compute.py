"""Azure ML's compute targets: those of the site."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hpctf.azureml.refusing import OfSite, refuses
from hpctf.errors import UsageError, shown
from hpctf.site.loading import find_target

ComputeTargetException = UsageError
"""What `ComputeTarget` raises for a target that is not there."""


@refuses("AmlComputeStatus")
class AmlComputeStatus:
    """What is known of a target: it is there, with so many nodes for a job at most."""

    provisioning_state = "Succeeded"
    allocation_state = "Steady"
    errors = None
    vm_size = None
    vm_priority = None

    def __init__(self, max_nodes: int | None) -> None:
        self.current_node_count = self.target_node_count = max_nodes
        self.scale_settings = {"minNodeCount": 0, "maxNodeCount": max_nodes}

    def __repr__(self) -> str:
        return f"AmlComputeStatus({self.serialize()})"

    def serialize(self) -> dict[str, Any]:
        """Return it under Azure ML's names."""
        return {
            "provisioningState": self.provisioning_state,
            "allocationState": self.allocation_state,
            "currentNodeCount": self.current_node_count,
            "targetNodeCount": self.target_node_count,
            "scaleSettings": self.scale_settings,
            "vmSize": self.vm_size,
            "vmPriority": self.vm_priority,
            "errors": self.errors,
        }


@refuses("ComputeTarget")
class ComputeTarget:
    """One of the site's compute targets.

    Raises
    ------
    UsageError
        The site has no such target; `ComputeTargetException` is another name of it.
    """

    type = "AmlCompute"
    provisioning_state = "Succeeded"
    provisioning_errors = None

    def __init__(self, workspace: OfSite, name: str, *args: Any, **kwargs: Any) -> None:
        self.workspace = workspace
        self.name, self.target = find_target(workspace.site, name)

    def __repr__(self) -> str:
        return f"ComputeTarget(name={self.name!r}, site={self.workspace.site.name!r})"

    @staticmethod
    def create(
        workspace: OfSite, name: str, provisioning_configuration: object = None
    ) -> ComputeTarget:
        """Return the target of that name: a cluster's are there, and none is made."""
        if name not in workspace.site.targets:
            known = sorted(workspace.site.targets)
            raise UsageError(
                f"Cannot create compute target {shown(name)}: a cluster's targets are those of "
                f"its site file, and site {workspace.site.name!r} has: {', '.join(known)}.",
                f"Use one of them: ComputeTarget(workspace=ws, name={known[0]!r}).",
            )
        return ComputeTarget(workspace, name)

    @staticmethod
    def list(workspace: OfSite) -> list[ComputeTarget]:
        """Return all of the site's targets."""
        return [ComputeTarget(workspace, name) for name in workspace.site.targets]

    def wait_for_completion(
        self,
        show_output: bool = False,
        min_node_count: int | None = None,
        timeout_in_minutes: int | None = None,
        is_delete_operation: bool = False,
    ) -> None:
        """Return at once: the target is there."""

    def refresh_state(self) -> None:
        """Return at once: the target is as it was."""

    def get_status(self) -> AmlComputeStatus:
        """Return that the target is there, with its size."""
        return AmlComputeStatus(self.target.max_nodes)

    @property
    def status(self) -> AmlComputeStatus:
        """What `get_status` returns, as the first versions of SDK v1 have it."""
        return self.get_status()

    def get(self) -> ComputeTarget:
        """Return the target."""
        return self

    def serialize(self) -> dict[str, Any]:
        """Return name, type and status."""
        return {"name": self.name, "computeType": self.type, **self.get_status().serialize()}


class AmlCompute(ComputeTarget):
    """A `ComputeTarget`."""

    @staticmethod
    def provisioning_configuration(
        vm_size: str = "", vm_priority: str = "dedicated", **kwargs: Any
    ) -> Mapping[str, Any]:
        """Return what is given: `ComputeTarget.create` takes it, and makes nothing."""
        return {"vm_size": vm_size, "vm_priority": vm_priority, **kwargs}
