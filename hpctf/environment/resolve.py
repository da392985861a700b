"""From what a person asks for to what an environment is made of: defaults, and what cannot be."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from hpctf.environment import tensorflow_versions
from hpctf.environment.conda_file import CondaPackages, conda_packages
from hpctf.environment.interpreters import check_version, find_python
from hpctf.environment.requirements import Reader, Requirements, name_of
from hpctf.environment.spec import EnvironmentSpec
from hpctf.environment.toolchain import environment_with, in_order, mpi_of
from hpctf.errors import SiteError, UsageError
from hpctf.estimator.software import PACKAGES, names_packages
from hpctf.site.trust import trusted_by

if TYPE_CHECKING:
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.site.model import Site

_TENSORBOARD = ("tensorboard", "tb-nightly")

_CONDA_PYTHON = "3.11"
"""Of conda environments when nobody says one: all versions of TensorFlow from 2.12 on have it."""


@dataclass(frozen=True)
class SoftwareRequest:
    """What a person says about a training environment, with Azure ML's names.

    Files are seen from `base`, which is the source folder of an estimator.
    """

    base: Path
    pip_packages: Sequence[str] = ()
    pip_requirements_file: str | None = None
    conda_packages: Sequence[str] = ()
    conda_dependencies_file: str | None = None
    framework_version: str | None = None
    python_version: str | None = None
    mpi: bool = False
    gpu: bool = False
    modules: tuple[str, ...] = ()


def spec_for(asked: SoftwareRequest, site: Site) -> EnvironmentSpec:
    """Return the environment that is requested, as it would be built on a site.

    Raises
    ------
    UsageError, SiteError
        What cannot be read, be combined or be had here.
    """
    settings = site.environments
    python_version = check_version(asked.python_version)
    reader = Reader()
    reader.packages(asked.pip_packages, asked.base)
    if asked.pip_requirements_file:
        reader.file(asked.base / os.path.expanduser(asked.pip_requirements_file))
    conda = conda_packages(asked.conda_packages, asked.conda_dependencies_file, asked.base, reader)
    pip = reader.found()
    if pip.hashes and settings.pip == "pip":
        raise UsageError(
            "pip refuses requirements without --hash beside those with one, and hpctf adds "
            f"TensorFlow to them; site {site.name!r} builds with pip.",
            "Leave the hashes out, or let the site build with uv (environments.pip: uv).",
        )
    pip, horovod = _horovod(asked, site, pip, conda)
    gpu_operations = settings.horovod.gpu_operations if horovod and asked.gpu else None
    machine = platform.machine()
    pip, tensorflow, version = _tensorflow(asked, site, pip, conda, gpu_operations, machine)
    pip = _with_tensorboard(pip, conda, tensorflow, version)
    modules = in_order(site.modules, settings.modules, asked.modules)
    here = _environment(modules, site)
    python = ""
    if conda is None:
        bounds = tensorflow_versions.pythons_of(version)
        reason, trusted = f"TensorFlow {version}".strip(), trusted_by(site)
        found = find_python(python_version, bounds, settings.pythons, here, reason, trusted)
        python, python_version = found.path, found.version
    else:
        python_version = _conda_python(conda, python_version)
    return EnvironmentSpec(
        kind="pip" if conda is None else "conda",
        python_version=python_version,
        python=python,
        pip=pip.lines,
        constraints=pip.constraints,
        sources=pip.sources,
        local=pip.local,
        conda=() if conda is None else conda.packages,
        channels=() if conda is None else conda.channels or settings.channels,
        channel_priority="" if conda is None else settings.channel_priority,
        virtual_packages=() if conda is None else tuple(sorted(settings.virtual_packages.items())),
        variables=() if conda is None else conda.variables,
        tensorflow=tensorflow,
        tensorflow_version=version,
        horovod=horovod,
        gpu=asked.gpu,
        gpu_operations=gpu_operations,
        build_variables=tuple(sorted(settings.horovod.build_variables.items())) if horovod else (),
        mpi=_mpi(here, site) if horovod else "",
        modules=modules,
        machine=machine,
    )


def _horovod(
    asked: SoftwareRequest, site: Site, pip: Requirements, conda: CondaPackages | None
) -> tuple[Requirements, str | None]:
    """Return the packages without Horovod, and the version of it that hpctf builds in their place:
    pip would build one that does not see the environment's TensorFlow."""
    named = pip.of(["horovod"])
    pip = pip.without(["horovod"])
    if conda is not None and "horovod" in conda.names:
        return pip, None
    if not asked.mpi and not named:
        return pip, None
    for requirement in named:
        exact = [s.version for s in requirement.specifier if s.operator in ("==", "===")]
        if requirement.url or (len(requirement.specifier) and not exact):
            raise UsageError(
                f"{str(requirement)!r}: hpctf builds Horovod for the environment's TensorFlow, "
                "and takes an exact version of it.",
                "Write horovod==0.28.1, or leave it out: the backend mpi brings it.",
            )
        if exact:
            return pip, exact[0]
    return pip, site.environments.horovod.version


def _tensorflow(
    asked: SoftwareRequest,
    site: Site,
    pip: Requirements,
    conda: CondaPackages | None,
    gpu_operations: str | None,
    machine: str,
) -> tuple[Requirements, str | None, str]:
    """Return the packages, the requirement to add for TensorFlow, and its version if known."""
    named = pip.of(tensorflow_versions.NAMES)
    tensorflow_versions.check_names(named)
    in_conda = conda is not None and not conda.names.isdisjoint(tensorflow_versions.NAMES)
    version = tensorflow_versions.named_version(named)
    wanted = asked.framework_version
    specifier = None if wanted is None else tensorflow_versions.specifier_of(wanted)
    newest = tensorflow_versions.NEWEST_WITH_GPU_HOROVOD
    requirement = None
    if in_conda:
        if wanted is not None:
            raise UsageError(
                f"framework_version is {wanted!r}, and the conda packages name TensorFlow, too.",
                "Give one of the two.",
            )
    elif named:
        if wanted is not None:
            if version and version != _series(wanted):
                raise UsageError(
                    f"framework_version is {wanted!r}, but the packages say {str(named[0])!r}.",
                    "Give one of the two.",
                )
            limit = f"{named[0].name}{specifier}"
            pip = replace(pip, constraints=(*pip.constraints, limit))
            version = _series(wanted)
    else:
        default = newest if gpu_operations else tensorflow_versions.TESTED
        package = tensorflow_versions.package_for(site.environments.tensorflow, asked.gpu, machine)
        requirement = package + (specifier or f"=={default}.*")
        version = _series(wanted or default)
    ships_no_headers = tensorflow_versions.is_at_least(
        version, tensorflow_versions.EMPTY_HEADERS_FROM
    )
    if gpu_operations and ships_no_headers:
        raise UsageError(
            f"Horovod with GPU operations ({gpu_operations}, as site {site.name!r} says) can be "
            f"built for TensorFlow {newest} or older, not for {version}.",
            f"Ask for framework_version='{newest}'.",
        )
    return pip, requirement, version


def _with_tensorboard(
    pip: Requirements, conda: CondaPackages | None, tensorflow: str | None, version: str
) -> Requirements:
    """Return the packages with TensorBoard, if pip installs a TensorFlow that does not bring it."""
    named = {name_of(one) for one in pip.of((*tensorflow_versions.NAMES, *_TENSORBOARD))}
    brings = tensorflow_versions.series(version)
    if tensorflow is None and named.isdisjoint(tensorflow_versions.RELEASED):
        return pip
    if brings and brings < tensorflow_versions.NO_TENSORBOARD_FROM:
        return pip
    if not named.isdisjoint(_TENSORBOARD) or (conda and not conda.names.isdisjoint(_TENSORBOARD)):
        return pip
    return replace(pip, lines=(*pip.lines, _TENSORBOARD[0]))


def _series(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _conda_python(conda: CondaPackages, wanted: str | None) -> str:
    if conda.python and wanted and not f"{conda.python}.".startswith(f"{wanted}."):
        raise UsageError(
            f"python_version is {wanted!r}, but the conda packages say python={conda.python}.",
            "Give one of the two.",
        )
    return conda.python or wanted or _CONDA_PYTHON


def _environment(modules: tuple[str, ...], site: Site) -> dict[str, str]:
    """Return the environment with the modules; without, where only nodes have them."""
    try:
        return environment_with(modules)
    except SiteError:
        if site.environments.build_on == "job":
            return dict(os.environ)
        raise


def _mpi(environment: dict[str, str], site: Site) -> str:
    """Return the MPI that Horovod is built for; empty if only the node that builds knows it."""
    mpi = mpi_of(environment)
    if not mpi and site.environments.build_on == "login":
        raise SiteError(
            f"There is no MPI to build Horovod with on {os.uname().nodename}: no mpicc on PATH.",
            "Load its module (modules in the site file), install its development files, or let "
            "a node build (environments.build_on: job).",
        )
    return mpi


def spec_of(
    estimator: TensorFlow, site: Site, missing: Sequence[str] = ()
) -> EnvironmentSpec | None:
    """Return the environment that an estimator asks for; None if it asks for none.

    Nothing is built or written. Python and MPI are those that the site's modules bring.

    Parameters
    ----------
    missing
        What its script needs and hpctf's own Python lacks: it then asks for an environment without
        naming a package (`hpctf.environment.libraries.missing_from`).

    Raises
    ------
    UsageError
        Packages, files or versions that cannot be: with file and line.
    SiteError
        There is no Python, MPI or module for it here.
    """
    if estimator.user_managed or not (missing or names_packages(estimator)):
        return None
    asked = SoftwareRequest(
        base=Path(estimator.source_directory or os.getcwd()),
        **{name: getattr(estimator, name) for name in PACKAGES},
        mpi=estimator.backend == "mpi",
        gpu=estimator.use_gpu,
        modules=tuple(estimator.modules),
    )
    return spec_for(asked, site)
