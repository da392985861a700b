"""Other environments of the store that have much in common with one that is being built."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from hpctf.environment.conda import stem_of
from hpctf.environment.lock import Lock
from hpctf.environment.spec import EnvironmentSpec
from hpctf.environment.store import Environment, Store

_MOST = 2
"""How many are looked at: one that differs by a package, and one that has that package."""

_CHECKED_WITH = (
    *("kind", "machine", "python", "modules", "variables"),
    *("horovod", "mpi", "gpu", "gpu_operations", "build_variables"),
)
"""What of a spec, besides its packages, the check of an environment depends on."""


def most_alike(store: Store, spec: EnvironmentSpec, lock: Lock) -> list[Environment]:
    """Return the environments for the same Python that share most packages with a new one."""
    shared: list[tuple[int, Environment]] = []
    for other in store.environments():
        try:
            record = other.record()
        except (OSError, ValueError):  # it was removed just now, or damaged
            continue
        if _series(record["spec"]["python_version"]) == _series(spec.python_version):
            shared.append((len(set(record["packages"]) & set(lock.packages)), other))
    shared.sort(key=lambda pair: pair[0], reverse=True)
    return [other for count, other in shared[:_MOST] if count]


def checked_before(
    spec: EnvironmentSpec, lock: Lock, others: list[Environment]
) -> dict[str, Any] | None:
    """Return the record of an environment that was checked with the same Python and MPI, and whose
    packages are all in the new one in the same versions: what is there besides does not change the
    answer."""
    asked = spec.public()
    for other in others:
        record = other.record()
        same = all(record["spec"].get(name) == asked[name] for name in _CHECKED_WITH)
        same = same and record["conda"] == list(map(stem_of, lock.conda))
        if same and record["checked"] and set(record["packages"]) <= set(lock.packages):
            return record
    return None


def cache_tag(spec: EnvironmentSpec) -> str:
    """Return what the names of compiled modules hold: ``cpython-311``."""
    return f"cpython-{_series(spec.python_version).replace('.', '')}"


def site_packages_of(folder: Path) -> Path | None:
    """Return the folder of an environment that takes its packages."""
    return next(iter((folder / "lib").glob("python*/site-packages")), None)


def _series(version: str) -> str:
    return ".".join(version.split(".")[:2])
