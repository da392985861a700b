"""Conda environments, with whichever of micromamba, mamba and conda the site has, or py-rattler."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctf.common.files import PRIVATE_FILE, write_atomic
from hpctf.common.processes import user_name
from hpctf.common.secrets import credentials_in, without_credentials
from hpctf.common.trusted_path import Trusted, check
from hpctf.environment.build_commands import Commands
from hpctf.environment.configuration import conda_configuration, texts_of
from hpctf.environment.indexes import Indexes, check_place_of_packages
from hpctf.environment.pip import Pip
from hpctf.environment.rattler import RATTLER, Rattler, rattler_folder
from hpctf.environment.spec import EnvironmentSpec
from hpctf.environment.store import CACHE, Store
from hpctf.errors import SiteError
from hpctf.site.model import Site

PROGRAMS = ("micromamba", "mamba", "conda")


def conda_maker(
    site: Site, store: Store, pip: Pip, configuration: Mapping[str, Any]
) -> Conda | Rattler:
    """Return what makes conda environments: the site's program, or py-rattler where it has none.

    Raises
    ------
    SiteError
        There is none here, and py-rattler is not installed either.
    UntrustedPath
        Somebody could change it who is not trusted.
    """
    program = _find_conda(site.environments.conda, pip.commands, store.trusted)
    ways = (pip.commands, pip.indexes, site.environments.offline, pip.work, configuration)
    if program != RATTLER:
        return Conda(program, *ways)
    cache = store.make(CACHE) / f"conda-{user_name()}"
    check(cache, "py-rattler's cache", store.trusted)
    return Rattler(*ways, cache, store.trusted)


def _find_conda(named: str | None, commands: Commands, by: Trusted) -> str:
    names = PROGRAMS if named is None else () if named == RATTLER else (os.path.expanduser(named),)
    for name in names:
        found = commands.program(os.path.expandvars(name))
        if found is not None:
            check(found, "The conda program", by)
            return found
    if named in (None, RATTLER):
        if rattler_folder() is not None:
            return RATTLER
        nor = f", and {os.uname().nodename} has no {' or '.join(names)} on PATH" if names else ""
        raise SiteError(
            f"Cannot install conda packages: {RATTLER} is not installed in hpctf's Python "
            f"({sys.executable}){nor}.",
            "Install it: pip install 'hpctf[conda]'. Or let the site file load a module that "
            "brings conda (environments.modules), or name the program (environments.conda).",
        )
    raise SiteError(
        f"Cannot install conda packages: environments.conda is {named!r}, which is not on "
        f"{os.uname().nodename}.",
        f"Correct it in the site file, or remove it to build with {RATTLER} (hpctf[conda]).",
    )


@dataclass(frozen=True)
class Conda:
    """The program that makes conda environments.

    ``configuration`` is what the person's says of channels.
    """

    digest = "md5"

    program: str
    commands: Commands
    indexes: Indexes
    offline: bool
    work: Path
    configuration: Mapping[str, Any]

    def make(self, folder: Path, spec: EnvironmentSpec) -> Path:
        """Make an environment with a spec's conda packages and return its Python."""
        words: list[str | Path] = [self.program, "create", "--yes", "--quiet", "-p", folder]
        confided: dict[str, list[str]] = {}
        if self.offline:
            words.append("--offline")
        if spec.locked_conda:
            explicit = self.work / "explicit.txt"
            write_atomic(explicit, "\n".join(["@EXPLICIT", *spec.locked_conda, ""]), PRIVATE_FILE)
            words += ["--file", explicit]
        else:
            words.append("--override-channels")
            for channel in spec.channels:
                words += ["-c", _public_name(channel, confided)]
            words += [f"python={spec.python_version}", "pip"]
            for package in spec.conda:
                channel, colons, rest = package.rpartition("::")
                words.append(f"{_public_name(channel, confided)}{colons}{rest}")
        name = os.path.basename(self.program)
        variables = {**self._own(confided, spec.channel_priority), **spec.overrides}
        self.commands.run(words, f"Making the conda environment with {name}", variables)
        return folder / "bin" / "python"

    def _own(self, confided: Mapping[str, Sequence[str]], priority: str) -> dict[str, str]:
        """Return variables by which the program reads a configuration of ours, not the person's.

        conda and mamba look for that in the home, which is an empty folder here but for links.
        """
        theirs = self.commands.variables.get("HOME") or os.path.expanduser("~")
        home = self.work / "home"
        for name in _OF_THE_HOME:
            if os.path.exists(os.path.join(theirs, name)):
                (home / name).parent.mkdir(parents=True, exist_ok=True)
                (home / name).symlink_to(os.path.join(theirs, name))
        home.mkdir(exist_ok=True)
        multichannels = {**self.configuration.get("custom_multichannels", {}), **confided}
        content = {**self.configuration, "custom_multichannels": multichannels}
        if priority:
            content["channel_priority"] = priority
        file = self.work / "condarc.yml"
        write_atomic(file, json.dumps(content), PRIVATE_FILE)
        return {
            **self.indexes.variables,
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home / ".config"),
            "CONDARC": str(file),
        }


_OF_THE_HOME = (
    *(".netrc", ".mamba", ".continuum", ".anaconda", ".aws", ".local", ".cache", "micromamba"),
    ".conda/pkgs",
)
"""Passwords and tokens of channels, and packages that were downloaded before."""


_OF_CHANNELS = (
    *("channel_alias", "custom_channels", "custom_multichannels", "default_channels"),
    "mirrored_channels",
)


def _public_name(channel: str, confided: dict[str, list[str]]) -> str:
    """Return a channel's name for a command line: of one with a password, one of ours."""
    if without_credentials(channel) == channel:
        return channel
    known = {address: name for name, (address,) in confided.items()}
    name = known.get(channel, f"hpctf-{len(confided) + 1}")
    confided[name] = [channel]
    return name


def channels_of(
    spec: EnvironmentSpec, environment: Mapping[str, str], by: Trusted
) -> tuple[dict[str, Any], frozenset[str]]:
    """Return what the person's configuration says of channels, and the secrets of it and of the
    spec's own.

    Raises
    ------
    UntrustedPath
        A channel that is a folder, or a folder of packages that were downloaded, could be changed
        by somebody who is not trusted.
    """
    configuration = conda_configuration(environment)
    own = [*spec.channels, *(package.rpartition("::")[0] for package in spec.conda)]
    theirs = texts_of({key: configuration.get(key) for key in _OF_CHANNELS})
    for place in (*own, *theirs):
        if "://" in place or place.startswith(("/", "~")):
            check_place_of_packages(place, by)
    caches = environment.get("CONDA_PKGS_DIRS", "").split(",")
    for folder in (*configuration.get("pkgs_dirs", []), *filter(None, caches)):
        check(os.path.expanduser(folder), "conda's folder of packages", by)
    variables = [text for name, text in environment.items() if name.startswith("CONDA_")]
    said = (*own, *texts_of(configuration), *variables, *spec.locked_conda)
    return configuration, credentials_in(said)


def set_variables(folder: Path, variables: Sequence[tuple[str, str]]) -> None:
    """Keep what an environment sets where conda's and a rank's ``activate`` find it."""
    if variables:
        state = {"version": 1, "env_vars": dict(variables)}
        write_atomic(folder / "conda-meta/state", json.dumps(state), 0o644)


def stem_of(address: str) -> str:
    """Return ``numpy-1.26.4-py311_0`` of an explicit package's address."""
    name = address.partition("#")[0].rpartition("/")[2]
    return name.removesuffix(".conda").removesuffix(".tar.bz2")
