"""Where environments are kept: ``<store>/<key>/<build id>/``, and which of them are whole.

``<store>/<key>/current`` names the build that is used. Making that link is what makes an
environment ready: it is made once all is built and checked, and cannot be made twice, so two
builders at once (two users, two hosts, a file system without locks) never clash, and a build that
was killed leaves nothing that looks whole.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctf.environment.spec import EnvironmentSpec
from hpctf.files import read_json

if TYPE_CHECKING:
    from hpctf.site.model import Site

CURRENT = "current"
RECORD = "environment.json"
LOCK_FILE = "environment.lock"


@dataclass(frozen=True)
class Environment:
    """One environment of a store that is ready."""

    folder: Path

    @property
    def key(self) -> str:
        return self.folder.name

    @property
    def current(self) -> Path:
        """The environment itself, under the name that runs use."""
        return self.folder / CURRENT

    @property
    def python(self) -> Path:
        return self.current / "bin" / "python"

    @property
    def lock(self) -> Path:
        """``environment.lock``: exact versions of all that is in it."""
        return self.current / LOCK_FILE

    def record(self) -> dict[str, Any]:
        """Return ``environment.json``: its spec, who built it, when, and how long that took."""
        record: dict[str, Any] = read_json(self.current / RECORD)
        return record


class Store:
    """The folder of a site's environments.

    Parameters
    ----------
    site
        Its ``environments.store`` says where, with ``~`` and variables.
    """

    def __init__(self, site: Site) -> None:
        named = os.path.expandvars(os.path.expanduser(site.environments.store))
        self.root = Path(os.path.abspath(named))

    def folder_of(self, spec: EnvironmentSpec) -> Path:
        """Return the folder that the spec's builds lie in."""
        return self.root / spec.key

    def python_of(self, spec: EnvironmentSpec) -> Path:
        """Return the interpreter's path, which is the same before and after it is built."""
        return Environment(self.folder_of(spec)).python

    def is_ready(self, spec: EnvironmentSpec) -> bool:
        """Return whether the spec's environment is built, checked and there."""
        return self.environment(spec.key) is not None

    def environment(self, key: str) -> Environment | None:
        """Return the environment of that key, if it is ready."""
        found = Environment(self.root / key)
        whole = os.path.isfile(found.current / RECORD) and os.access(found.python, os.X_OK)
        return found if whole else None

    def write_lock(self, key: str, folder: Path) -> Path:
        """Copy the exact versions of an environment to ``folder/environment.lock``."""
        to = folder / LOCK_FILE
        shutil.copyfile(Environment(self.root / key).lock, to)
        return to
