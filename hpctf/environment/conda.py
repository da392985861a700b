"""Conda environments, with whichever of micromamba, mamba and conda the site has."""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path

from hpctf.environment.commands import Commands
from hpctf.environment.indexes import Indexes
from hpctf.environment.spec import EnvironmentSpec
from hpctf.errors import SiteError
from hpctf.site.model import EnvironmentSettings
from hpctf.trusted_path import Trusted, check

PROGRAMS = ("micromamba", "mamba", "conda")


def find_conda(settings: EnvironmentSettings, commands: Commands, by: Trusted) -> str:
    """Return the path of the site's conda program.

    Raises
    ------
    SiteError
        There is none here.
    UntrustedPath
        Somebody could change it who is not trusted.
    """
    names = PROGRAMS if settings.conda is None else (os.path.expanduser(settings.conda),)
    for name in names:
        found = commands.program(os.path.expandvars(name))
        if found is not None:
            check(found, "The conda program", by)
            return found
    raise SiteError(
        f"There is no {' or '.join(names)} on {os.uname().nodename} for conda packages.",
        "Install micromamba (one file), load conda's module (environments.modules), or name the "
        "program under environments.conda in the site file.",
    )


@dataclass(frozen=True)
class Conda:
    """The program that makes conda environments."""

    program: str
    commands: Commands
    indexes: Indexes
    offline: bool
    work: Path

    def make(self, folder: Path, spec: EnvironmentSpec) -> Path:
        """Make an environment with a spec's conda packages and return its Python."""
        words: list[str | Path] = [self.program, "create", "--yes", "--quiet", "-p", folder]
        if self.offline:
            words.append("--offline")
        if spec.locked_conda:
            explicit = self.work / "explicit.txt"
            explicit.write_text("\n".join(["@EXPLICIT", *spec.locked_conda, ""]))
            words += ["--file", explicit]
        else:
            words.append("--override-channels")
            for channel in spec.channels:
                words += ["-c", channel]
            words += [f"python={spec.python_version}", "pip", *spec.conda]
        name = os.path.basename(self.program)
        self.commands.run(
            words, f"Making the conda environment with {name}", self.indexes.variables
        )
        return folder / "bin" / "python"


def explicit_packages(folder: Path) -> tuple[str, ...]:
    """Return the addresses of an environment's conda packages, with checksums, as its records in
    ``conda-meta`` have them: what ``conda list --explicit --md5`` prints."""
    found = []
    for file in sorted((folder / "conda-meta").glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        if record.get("url"):
            md5 = f"#{record['md5']}" if record.get("md5") else ""
            found.append(f"{record['url']}{md5}")
    return tuple(sorted(found))


def installers(site_packages: Path) -> dict[str, str]:
    """Return who installed each package, ``pip``, ``uv`` or ``conda``, by normal name."""
    found = {}
    for folder in site_packages.glob("*.dist-info"):
        name = re.sub(r"[-_.]+", "-", folder.name.partition("-")[0]).lower()
        try:
            found[name] = (folder / "INSTALLER").read_text().strip()
        except OSError:
            continue
    return found
