"""Conda environments through py-rattler, where the site has no conda program of its own."""

from __future__ import annotations

import importlib.util
import itertools
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hpctf.common.files import PRIVATE_FILE, write_atomic
from hpctf.common.trusted_path import Trusted
from hpctf.environment.build_commands import Commands
from hpctf.environment.bytecode import compile_modules
from hpctf.environment.channels import Channels
from hpctf.environment.configuration import CONDA_KEYS
from hpctf.environment.indexes import Indexes, check_place_of_packages
from hpctf.environment.spec import EnvironmentSpec
from hpctf.errors import BuildError

RATTLER = "py-rattler"
"""What a site calls it (``environments.conda``), and PyPI."""

_SCRIPT = Path(__file__).parent / "with_rattler/make.py"


def rattler_folder() -> str | None:
    """Return the folder of modules that py-rattler is in, if hpctf's own Python has it."""
    found = importlib.util.find_spec("rattler")
    if found is None or found.origin is None:
        return None
    return str(Path(found.origin).parents[1])


@dataclass(frozen=True)
class Rattler:
    """What makes conda environments in a child process of hpctf's own Python.

    It keeps what it has downloaded in ``cache``, beside the environments, so that it can link files
    rather than copy them. ``trusted`` may have written the folders of packages.
    """

    program = RATTLER
    digest = "sha256"

    commands: Commands
    indexes: Indexes
    offline: bool
    work: Path
    configuration: Mapping[str, Any]
    cache: Path
    trusted: Trusted

    def make(self, folder: Path, spec: EnvironmentSpec) -> Path:
        """Make an environment with a spec's conda packages and return its Python."""
        file = self.work / "conda.json"
        write_atomic(file, json.dumps(self.job(folder, spec)), PRIVATE_FILE)
        words: list[str | Path] = [sys.executable, "-I", _SCRIPT, file]
        variables = {**self._reached(), **self.indexes.variables, **spec.overrides}
        self.commands.run(words, f"Making the conda environment with {RATTLER}", variables)
        self._compile(folder)
        return folder / "bin" / "python"

    def _compile(self, folder: Path) -> None:
        """Compile the modules of packages as conda does: a store may be read-only for others."""
        files = []
        for record in sorted(folder.glob("conda-meta/*.json")):
            content = json.loads(record.read_text(encoding="utf-8"))
            if content.get("noarch") == "python":
                names = [name for name in content["files"] if name.endswith(".py")]
                files += [str(folder / name) for name in names]
        if files:
            compile_modules(folder / "bin/python", files, self.work, self.commands)

    def job(self, folder: Path, spec: EnvironmentSpec) -> dict[str, Any]:
        """Return what the script is to do, as plain data: it may hold passwords.

        Raises
        ------
        BuildError
            The person's configuration says what py-rattler cannot do.
        """
        said = self._said
        channels = Channels(said)
        sources = {name: channels.of(name) for name in spec.channels}
        wanted = [f"python={spec.python_version}", "pip", *spec.conda]
        specs = [channels.spec(text, sources) for text in wanted]
        for place in itertools.chain(*sources.values(), spec.locked_conda):
            check_place_of_packages(place.partition("#")[0], self.trusted)
        job = {
            "prefix": str(folder),
            "work": str(self.work),
            "cache": str(self.cache),
            "modules": rattler_folder(),
            "specs": specs,
            "channels": list(sources.items()),
            "priority": spec.channel_priority or "flexible",
            "locked": list(spec.locked_conda),
            "offline": self.offline or str(said.get("offline")).lower() == "true",
            "verify": str(self._verify).lower() not in ("false", "<false>"),
            "retries": int(said.get("remote_max_retries", said.get("max_retries", 3))),
            "mirrors": channels.mirrors,
            "headers": channels.headers,
        }
        self._check(job)
        return job

    @property
    def _verify(self) -> Any:
        return self._said.get("ssl_verify", self._said.get("verify_ssl", True))

    @property
    def _said(self) -> dict[str, Any]:
        """What the configuration says, and then the variables that conda reads so, too."""
        found = dict(self.configuration)
        for key in CONDA_KEYS:
            value = self.commands.variables.get(f"CONDA_{key.upper()}")
            if value and not isinstance(found.get(key), dict):
                found[key] = value.split(",") if key.endswith("channels") else value
        return found

    def _check(self, job: Mapping[str, Any]) -> None:
        if any(self._said.get(key) for key in ("client_ssl_cert", "client_cert")):
            raise BuildError(
                f"Your configuration of conda names a client certificate, and {RATTLER} has no "
                "way to use one.",
                "Name a conda program in the site file: environments.conda.",
            )
        if not job["verify"] and (job["headers"] or job["offline"]):
            raise BuildError(
                f"{RATTLER} cannot combine ssl_verify: false with "
                f"{'a password in an address' if job['headers'] else 'offline: true'}.",
                "Put the password in ~/.netrc, or the server's certificate in ssl_verify.",
            )

    def _reached(self) -> dict[str, str]:
        proxies = self.configuration.get("proxy_servers", {})
        found = {
            f"{scheme}_proxy": str(proxies[scheme])
            for scheme in ("http", "https")
            if proxies.get(scheme)
        }
        if isinstance(self._verify, str) and os.path.isfile(self._verify):
            found["SSL_CERT_FILE"] = self._verify
        return found
