"""Lock files: exact versions of all that is in an environment, and making it again from them.

A lock is a requirements file with a head: comments for pip, and for hpctf what pip cannot say.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path

from packaging.utils import canonicalize_name

from hpctf.common.secrets import without_credentials
from hpctf.environment.interpreters import check_python, find_python, inspect
from hpctf.environment.spec import EnvironmentSpec, spec_from
from hpctf.environment.store import Environment, Store
from hpctf.environment.toolchain import environment_with, mpi_of
from hpctf.errors import BuildError, UntrustedPath, UsageError
from hpctf.site.model import Site
from hpctf.site.trust import trusted_by
from hpctf.site.yaml_files import NotReadable, named, read_text

_HEAD = "# hpctf environment lock 1"

_OF_VENV = ("pip", "setuptools")
"""What Python's own venv puts into an environment before anything is installed (ensurepip), and
uv does not: a lock that uv has made lacks them."""


@dataclass(frozen=True)
class Lock:
    """The content of a lock file: the key and spec of the environment that it was taken from, pip
    packages in exact versions, and addresses of conda packages with their checksums."""

    key: str
    spec: EnvironmentSpec
    packages: tuple[str, ...]
    conda: tuple[str, ...] = ()

    def text(self) -> str:
        """Return the file's text; pip can read it, too."""
        lines = [_HEAD, f"# environment: {self.key}"]
        lines += [f"# spec: {json.dumps(self.spec.public(), sort_keys=True)}"]
        if self.spec.horovod:
            lines += [f"# built for it: horovod=={self.spec.horovod} with {self.spec.mpi}"]
        lines += [f"# conda: {address}" for address in self.conda]
        return "\n".join([*lines, *self.packages, ""])


def read_lock(path: Path) -> Lock:
    """Return the lock of a file.

    Raises
    ------
    UsageError
        It is not there, or no lock of hpctf's.
    """
    try:
        text = read_text(path)
    except FileNotFoundError:
        raise UsageError(
            f"There is no lock file {named(path)}.",
            "Make one: hpctf env lock ENVIRONMENT > FILE.",
        ) from None
    except NotReadable as error:
        raise UsageError(error.told("lock file", path)) from None
    lines = text.splitlines()
    found = (re.match(r"# (environment|spec): (.*)", line) for line in lines)
    head = {match[1]: match[2] for match in found if match}
    try:
        if lines[0] != _HEAD:
            raise ValueError
        spec = spec_from(json.loads(head["spec"]))
    except (IndexError, KeyError, ValueError):
        raise UsageError(
            f"{named(path)} is no lock file of hpctf's.", f"Those begin with {_HEAD!r}."
        ) from None
    conda = tuple(line.removeprefix("# conda: ") for line in lines if line.startswith("# conda: "))
    packages = tuple(line for line in lines if line and not line.startswith("#"))
    return Lock(head.get("environment", ""), spec, packages, conda)


def environment_of(lock: Lock, store: Store) -> Environment | None:
    """Return the environment that a lock was taken from, if it is still there as it was."""
    found = store.environment(lock.key)
    if found is None or not os.path.isfile(found.lock):
        return None
    now = read_lock(found.lock)
    same = (now.packages, now.conda) == (lock.packages, lock.conda)
    return found if same else None


def locked_spec(lock: Lock, site: Site, tell: Callable[[str], None]) -> EnvironmentSpec:
    """Return the environment that has exactly what a lock says, as it would be built here."""
    spec = lock.spec
    here = environment_with(spec.modules)
    python, version = spec.python, spec.python_version
    if spec.kind == "pip":
        trusted = trusted_by(site)
        same = None
        with contextlib.suppress(UntrustedPath):
            check_python(python, trusted)
            same = inspect(python)
        if same is None or same.version != version:
            major, minor = map(int, version.split(".")[:2])
            bounds, pythons = ((major, minor), (major, minor)), site.environments.pythons
            short = f"{major}.{minor}"
            same = find_python(short, bounds, pythons, here, "the lock file", trusted)
            tell(f"Python {version} ({python}) no longer exists; {same.version} ({same.path}) is")
        python, version = same.path, same.version
    return replace(
        spec,
        python=python,
        python_version=version,
        pip=(),
        constraints=(),
        conda=(),
        tensorflow=None,
        mpi=mpi_of(here) if spec.horovod else "",
        locked=lock.packages,
        locked_conda=lock.conda,
    )


def check_as_locked(made: Lock) -> None:
    """Refuse an environment that was made from a lock and has other packages than the lock.

    Raises
    ------
    BuildError
        Some are missing, or were added.
    """
    locked = _named_alike(without_credentials(made.spec.locked))
    places = set(_places(without_credentials(made.spec.locked_conda)))
    for wanted, found in (
        (locked, _named_alike(made.packages)),
        (places, set(_places(made.conda))),
    ):
        missing, more = sorted(wanted - found), sorted(found - wanted)
        if made.spec.kind == "pip":
            more = [line for line in more if line.partition("==")[0] not in _OF_VENV]
        if not wanted or not (missing or more):
            continue
        words = [f"missing: {', '.join(missing[:5])}"] if missing else []
        words += [f"not in the lock: {', '.join(more[:5])}"] if more else []
        raise BuildError(
            f"The environment is not what the lock says: {'; '.join(words)}.",
            "Build it on a machine with the Python and the index that the lock was made "
            "with, or make a new lock (hpctf env lock).",
        )


def _named_alike(lines: Iterable[str]) -> set[str]:
    """Return packages with their names in the normal form: pip lists ``opt_einsum``, and uv
    ``opt-einsum``."""
    found = set()
    for line in lines:
        name, rest = re.match(r"([\w.-]*)(.*)", line, re.DOTALL).groups()  # type: ignore[union-attr]
        found.add(f"{canonicalize_name(name)}{rest}")
    return found


def _places(conda: tuple[str, ...]) -> tuple[str, ...]:
    """Return the addresses of a lock's conda packages, without their checksums."""
    return tuple(sorted(line.partition("#")[0] for line in conda))


def pins(freeze: list[str], installers: Mapping[str, str]) -> tuple[str, ...]:
    """Return what pip installed of a freeze: no conda packages, and not the Horovod of ours."""
    kept = []
    for line in freeze:
        name = canonicalize_name(re.split(r"[=@ ]", line, maxsplit=1)[0])
        if name != "horovod" and installers.get(name) != "conda":
            kept.append(line)
    return tuple(sorted(without_credentials(kept)))


def installers(site_packages: Path) -> dict[str, str]:
    """Return who installed each package, ``pip``, ``uv`` or ``conda``, by normal name."""
    packages = metadata.distributions(path=[str(site_packages)])
    return {
        canonicalize_name(one.name): (one.read_text("INSTALLER") or "").strip() for one in packages
    }


def explicit_packages(folder: Path, digest: str = "md5") -> tuple[str, ...]:
    """Return the addresses of an environment's conda packages, with checksums, as its records in
    ``conda-meta`` have them: what ``conda list --explicit --md5`` prints, or ``--sha256``, which
    older condas do not read."""
    found = []
    for file in sorted((folder / "conda-meta").glob("*.json")):
        record = json.loads(file.read_text(encoding="utf-8"))
        if record.get("url"):
            checksum = f"#{record['md5']}" if record.get("md5") else ""
            if digest == "sha256" and record.get("sha256"):
                checksum = f"#sha256:{record['sha256']}"
            found.append(f"{record['url']}{checksum}")
    return tuple(sorted(found))
