"""Where environments are kept: ``<store>/<key>/<build id>/``, and which of them are whole.

``<store>/<key>/current`` names the build that is used. Making that link is what makes an
environment ready: it is made once all is built and checked, and cannot be made twice, so two
builders at once (two users, two hosts, a file system without locks) never clash, and a build that
was killed leaves nothing that looks whole.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctf.common.files import make_folder, read_json
from hpctf.common.paths import without_tilde
from hpctf.common.trusted_path import check, parts_of_python
from hpctf.environment.spec import EnvironmentSpec
from hpctf.errors import BuildError, SiteError, UntrustedPath, UsageError, did_you_mean, shown
from hpctf.site.trust import trusted_by

if TYPE_CHECKING:
    from hpctf.site.model import Site

CURRENT = "current"
WHEELS = "wheels"
LOGS = "logs"
CACHE = "cache"
RECORD = "environment.json"
LOCK_FILE = "environment.lock"
_STORE = "In the store of environments,"


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
        return dict(read_json(self.current / RECORD))


class Store:
    """The folder of a site's environments, which its ``environments.store`` names."""

    def __init__(self, site: Site) -> None:
        named = without_tilde("The store of environments", site.environments.store)
        self.root = Path(os.path.abspath(named))
        self.trusted = trusted_by(site)
        # What the group may write runs as everybody who uses it: only a group that is trusted.
        self.umask = int(site.umask, 8) | (0 if self.trusted.groups else stat.S_IWGRP)

    def python_of(self, spec: EnvironmentSpec) -> Path:
        """Return the interpreter's path, which is the same before and after it is built."""
        return Environment(self.root / spec.key).python

    def is_ready(self, spec: EnvironmentSpec) -> bool:
        """Return whether the spec's environment is built, checked and there, as `environment`."""
        return self.environment(spec.key) is not None

    def environment(self, key: str) -> Environment | None:
        """Return the environment of that key, if it is ready.

        Raises
        ------
        UntrustedPath
            It looks so, but somebody could have put it there who is not trusted.
        """
        found = self._whole(key)
        if found is not None:
            self._check_parts(found)
        return found

    def _whole(self, key: str) -> Environment | None:
        found = Environment(self.root / key)
        whole = os.path.isfile(found.current / RECORD) and os.access(found.python, os.X_OK)
        return found if whole else None

    def _check_parts(self, found: Environment) -> None:
        parts = parts_of_python(found.python)
        for part in (*parts, str(found.lock), str(found.current / RECORD)):
            check(part, _STORE, self.trusted)

    def environments(self) -> Iterator[Environment]:
        """Yield the environments that are ready, by name; none that cannot be trusted.

        Raises
        ------
        SiteError
            The store may not be read.
        UntrustedPath
            Anybody could put environments there.
        """
        for key in self._keys():
            with contextlib.suppress(UntrustedPath):
                found = self.environment(key)
                if found is not None:
                    yield found

    def folders(self) -> list[Path]:
        """Return the folders of all keys, ready or not."""
        return [self.root / key for key in self._keys()]

    def find(self, name: str) -> Environment:
        """Return the environment that a name stands for: its key, or a part that only it has.

        Raises
        ------
        UsageError
            None, or more than one, is called so.
        UntrustedPath
            As `environment`.
        """
        known = {key: one for key in self._keys() if (one := self._whole(key)) is not None}
        near = [key for key in known if name and name in key]
        near = [name] if name in known else near
        if len(near) > 1:
            raise UsageError(f"{shown(name)} may be any of {', '.join(near)}.", "Give more of it.")
        if not near:
            raise UsageError(
                f"There is no environment {shown(name)} in {self.root}."
                f"{did_you_mean(name, list(known))}",
                "List the environments: hpctf env list",
            )
        self._check_parts(known[near[0]])
        return known[near[0]]

    def prepare(self, key: str) -> Path:
        """Make the store and the key's folder, and return the folder.

        Raises
        ------
        SiteError
            The store cannot be made or written.
        UntrustedPath
            Somebody could put something there who is not trusted.
        BuildError
            The key's folder is somebody else's, who is not done.
        """
        folder = self.make(key)
        if not os.access(folder, os.R_OK | os.W_OK | os.X_OK):
            raise BuildError(
                f"Environment {key} is not ready, and its folder {str(folder)!r} is "
                f"{owner_of(folder)}'s: you may not build there.",
                'Wait until it is built, let the site share its store (umask: "0002" and trust: '
                "{groups: [NAME]}), or use a store of your own: environments.store.",
            )
        return folder

    def make(self, name: str) -> Path:
        """Make the store and a folder of it, unless they are there, as `prepare`; return it."""
        self._make(self.root)
        self._look()
        self._make(self.root / name)
        return self.root / name

    def _make(self, folder: Path) -> None:
        check(folder, _STORE, self.trusted)
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            make_folder(folder, self.umask)
        except FileExistsError:
            pass
        except OSError as error:
            raise self._unusable(f"cannot be made: {error.strerror}") from None
        check(folder, _STORE, self.trusted)  # somebody may have been faster

    def _look(self) -> None:
        try:
            found = os.stat(self.root)
        except OSError as error:
            raise self._unusable(f"cannot be reached: {error.strerror}") from None
        if not stat.S_ISDIR(found.st_mode):
            raise self._unusable("is not a folder")
        if not os.access(self.root, os.R_OK | os.X_OK):
            raise self._unusable(f"is {owner_of(self.root)}'s, and you may not read it")
        check(self.root, _STORE, self.trusted)

    def _unusable(self, why: str) -> SiteError:
        return SiteError(
            f"The store of environments, {str(self.root)!r}, {why}.",
            "The site file names it under environments.store.",
        )

    def _keys(self) -> list[str]:
        if not os.path.lexists(self.root):
            return []
        self._look()
        names = [entry.name for entry in os.scandir(self.root) if entry.is_dir()]
        return sorted(set(names) - {WHEELS, LOGS, CACHE})

    def write_lock(self, key: str, folder: Path) -> Path:
        """Copy the exact versions of an environment to ``folder/environment.lock``."""
        to = folder / LOCK_FILE
        shutil.copyfile(Environment(self.root / key).lock, to)
        return to


def owner_of(path: Path) -> str:
    """Return the name of who owns a file."""
    try:
        return path.owner()
    except (KeyError, OSError):
        return "somebody else"
