"""A service on record: its folder, its tokens, and what each of its servers is made of.

A server that takes over makes what it serves the service's own: one that fails changes nothing.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from hpctf.common.files import PRIVATE_FILE, make_folder, read_json, write_json
from hpctf.common.folders import remove_tree
from hpctf.common.forms import checked
from hpctf.common.processes import user_name
from hpctf.errors import RunFolderError, UsageError, did_you_mean, shown
from hpctf.planning.resources import Resources
from hpctf.runs.root import runs_root_of
from hpctf.serving.instance import SERVERS, current
from hpctf.site.model import Site, site_from

FOLDER = ".services"
"""Folder of the runs root in which services have theirs."""

RECORD = "service.json"
TOKENS = "tokens.json"
CODE = "code"
"""Folder of a server with its entry script and what lies beside it."""

KEYS = ("primary", "secondary")

_NAME = re.compile(r"[a-z](?:[a-z0-9-]{1,30})[a-z0-9]")


@dataclass(frozen=True)
class Entry:
    """An entry script of Azure ML's form in its folder, and the interpreter that runs it."""

    script: str
    folder: str
    python: str
    timeout_s: float = 60.0


@dataclass(frozen=True)
class Definition:
    """What a service is made of.

    Parameters
    ----------
    models
        Names and versions (``digits:3``), and their folders in the registry.
    python
        The interpreter of hpctf's environment for serving.
    site, resources
        Plain forms of the site, and of what is asked of Slurm.
    is_local
        Whether servers are processes of this machine rather than jobs.
    stays_up
        Whether each server submits its successor before its time limit.
    ports
        First and last of those that a server may take.
    """

    name: str
    models: dict[str, str]
    python: str
    site: dict[str, Any]
    resources: dict[str, Any]
    entry: Entry | None = None
    is_local: bool = False
    stays_up: bool = False
    ports: tuple[int, int] = (20000, 29999)
    limits: dict[str, Any] = field(default_factory=dict)
    drain_s: float = 30.0
    created: float = field(default_factory=time.time)
    user: str = field(default_factory=user_name)
    format: int = 1

    @property
    def of_site(self) -> Site:
        """The site as it was when the service was deployed."""
        return site_from(self.site)

    @property
    def asked(self) -> Resources:
        """What is asked of Slurm."""
        return Resources(**self.resources)


def check_service_name(name: str) -> str:
    """Return a service's name, or refuse it. The rule is Azure ML's.

    Raises
    ------
    UsageError
        It is not of 3 to 32 small letters, digits and hyphens.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise UsageError(
            f"The service's name is {shown(name)}, but must have 3 to 32 small letters, digits and "
            "hyphens, begin with a letter, and not end with a hyphen.",
            "Pass another one: --name.",
        )
    return name


def write_definition(server: Path, definition: Definition) -> None:
    """Write what a server is made of. The passwords of indexes may be among a site's settings."""
    write_json(server / RECORD, asdict(definition), PRIVATE_FILE)


@dataclass(frozen=True)
class ServiceFolder:
    """The folder of a service (`hpctf.serving.instance`)."""

    path: Path

    @property
    def name(self) -> str:
        """The service's name."""
        return self.path.name

    @property
    def tokens(self) -> Path:
        """The file with its tokens."""
        return self.path / TOKENS

    def definition(self) -> Definition:
        """Return what the server that answers is made of, or else the latest one.

        Raises
        ------
        RunFolderError
            Its record is missing or damaged.
        """
        last = self.servers()[-1:]
        server = current(self.path) or (last[0] if last else self.path)
        try:
            found = checked(read_json(server / RECORD), Definition)
        except (OSError, ValueError) as error:
            raise RunFolderError(
                f"Cannot read service {self.name}: {str(server / RECORD)!r}: {error}.",
                f"Remove it: hpctf services stop --remove {self.name}",
            ) from None
        entry = found["entry"]
        known = {key: found[key] for key in Definition.__dataclass_fields__}
        known["entry"] = entry and Entry(**entry)
        known["ports"] = tuple(found["ports"])
        return Definition(**known)

    def servers(self) -> list[Path]:
        """Return the folders of its servers, the latest last."""
        try:
            found = [name for name in os.listdir(self.path / SERVERS) if name.isdigit()]
        except OSError:
            return []
        return [self.path / SERVERS / name for name in sorted(found, key=int)]

    def new_server(self) -> Path:
        """Make the folder of the next server."""
        (self.path / SERVERS).mkdir(exist_ok=True)
        while True:
            last = self.servers()[-1:]
            number = int(last[0].name) + 1 if last else 1
            made = self.path / SERVERS / str(number)
            try:
                make_folder(made)
            except FileExistsError:
                continue
            return made

    def keys(self) -> tuple[str, str]:
        """Return the primary and the secondary token.

        Raises
        ------
        RunFolderError
            The file is missing, or somebody else's.
        """
        try:
            found = read_json(self.tokens, follow=False)
            return str(found[KEYS[0]]), str(found[KEYS[1]])
        except (OSError, ValueError, LookupError, TypeError) as error:
            why = getattr(error, "strerror", None) or "it is not what hpctf wrote"
            raise RunFolderError(
                f"Cannot read the tokens of service {self.name}: {str(self.tokens)!r}: {why}.",
                "They are for whoever deployed the service; make new ones with "
                "service.regen_key('primary').",
            ) from None

    def write_keys(self, changed: Mapping[str, str]) -> None:
        """Write tokens into a file that the owner alone may read."""
        write_json(self.tokens, dict(changed), PRIVATE_FILE)

    def remove(self) -> None:
        """Remove it with its servers' logs."""
        remove_tree(self.path)


def services_root(
    site: Site | str | None = None, runs_root: str | os.PathLike[str] | None = None
) -> Path:
    """Return the folder of all services of a runs root."""
    return runs_root_of(site, runs_root) / FOLDER


def all_services(root: Path) -> Iterator[ServiceFolder]:
    """Yield the services of a root, by name."""
    try:
        names = sorted(os.listdir(root))
    except OSError:
        return
    for name in names:
        if _NAME.fullmatch(name) and os.path.lexists(root / name / TOKENS):
            yield ServiceFolder(root / name)


def find_service(root: Path, name: str) -> ServiceFolder:
    """Return the service of that name.

    Raises
    ------
    UsageError
        There is none.
    """
    known = [service.name for service in all_services(root)]
    if name not in known:
        raise UsageError(
            f"There is no service {shown(name)} under {str(root)!r}.{did_you_mean(name, known)}",
            "'hpctf services list' lists them; hpctf models deploy MODEL makes one.",
        )
    return ServiceFolder(root / name)
