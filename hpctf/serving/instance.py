"""What a server is told as it begins, and what it says of itself: both sides of a service's folder.

    <services>/<name>/
        tokens.json           two tokens, for the owner's eyes alone
        current -> servers/2  the server that answers
        servers/1, servers/2  one folder for each: service.json (what it is made of), orders.json,
                              state.json (where it answers), job.json, server.log

Standard library only: servers read it in an environment of their own.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hpctf.common.files import read_json, write_json

ORDERS = "orders.json"
STATE = "state.json"
LOG = "server.log"
CURRENT = "current"
SERVERS = "servers"
MODELS = "azureml-models"
"""Folder of a server with links to its models, laid out as Azure ML does for entry scripts."""


@dataclass(frozen=True)
class Orders:
    """What one server does.

    Parameters
    ----------
    service, folder
        The service's name, and the server's folder.
    models
        Folders of versions in the registry.
    tokens
        The file with the tokens.
    trusted_users, trusted_groups
        Ids of those who may own or write the models.
    entry
        The entry script's settings (`hpctf.serving.server.entry.EntrySettings`), or None.
    is_local
        Whether it serves this host alone; else whom the network lets.
    interfaces, host_suffix, ports
        The site's: where a server listens.
    limits
        Changes of `hpctf.serving.server.limits.Limits`.
    time_limit_s
        Seconds after which Slurm ends its job; None: nobody does.
    successor
        The command that starts its successor before that; empty: none does.
    drain_s
        Seconds that it goes on answering after another server has taken over.
    use_gpu
        Whether its models run on a GPU, if there is one.
    """

    service: str
    folder: str
    models: tuple[str, ...]
    tokens: str
    trusted_users: tuple[int, ...] = ()
    trusted_groups: tuple[int, ...] = ()
    entry: Mapping[str, Any] | None = None
    is_local: bool = True
    interfaces: tuple[str, ...] = ()
    host_suffix: str = ""
    ports: tuple[int, int] = (20000, 29999)
    limits: Mapping[str, Any] = field(default_factory=dict)
    time_limit_s: int | None = None
    successor: tuple[str, ...] = ()
    drain_s: float = 30.0
    use_gpu: bool = False

    @property
    def service_folder(self) -> Path:
        """The folder of the service."""
        return Path(self.folder).parents[1]

    def write(self) -> None:
        """Write them into the server's folder."""
        write_json(Path(self.folder, ORDERS), asdict(self))


def read_orders(folder: Path) -> Orders:
    """Return the orders of a server's folder."""
    found: dict[str, Any] = read_json(folder / ORDERS)
    for name, value in found.items():
        found[name] = tuple(value) if isinstance(value, list) else value
    return Orders(**found)


@dataclass(frozen=True)
class ServerState:
    """What a server says of itself: ``starting``, ``ready``, ``failed`` or ``stopped``, and whether
    its models run on ``cpu`` or ``gpu``."""

    state: str = "starting"
    uri: str | None = None
    host: str | None = None
    pid: int | None = None
    start_time: str | None = None
    job_id: str | None = None
    cluster: str | None = None
    job_name: str | None = None
    fingerprint: str | None = None
    certificate: str | None = None
    error: str | None = None
    runs_on: str = ""
    since: float = 0.0

    def write(self, folder: Path) -> None:
        """Write it into the server's folder."""
        write_json(folder / STATE, asdict(self))


def read_state(folder: Path) -> ServerState:
    """Return what a server has said last; nothing is known of one that has not begun."""
    try:
        found = read_json(folder / STATE)
        known = ServerState.__dataclass_fields__
        return ServerState(**{key: value for key, value in found.items() if key in known})
    except (OSError, ValueError, AttributeError):
        return ServerState()


def take_over(service: Path, server: Path) -> None:
    """Let a server be the one that answers: clients look where the link leads."""
    hidden = service / f".{CURRENT}-{os.urandom(4).hex()}"
    hidden.symlink_to(server.relative_to(service))
    hidden.replace(service / CURRENT)


def current(service: Path) -> Path | None:
    """Return the folder of the server that answers; None before the first is ready."""
    try:
        return service / os.readlink(service / CURRENT)
    except OSError:
        return None
