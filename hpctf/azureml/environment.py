"""Azure ML's environments: the software of a run, as parameters of hpctf's estimator.

Packages make an environment that hpctf builds once; an image is run by the site's container
runtime; a Python that somebody manages is taken as it is.
"""

from __future__ import annotations

import copy
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from hpctf.azureml.refusing import OfSite, refuses, sealed
from hpctf.environment.conda_file import read_conda_file
from hpctf.errors import UsageError, shown

_CURATED = re.compile(r"^azureml-tensorflow-(?P<version>\d+\.\d+)", re.IGNORECASE)

_OLDEST = (2, 15)
"""The oldest TensorFlow that hpctf's tests train with."""

NAMES_NONE = (
    "{} is older than what hpctf is tested with: the run gets the environment of a script that "
    "names none."
)
"""What is said of a TensorFlow that a script names, and the run does not get."""

_SDK = re.compile(r"^\s*azureml[\w.-]*", re.IGNORECASE)

_PROVIDED = re.compile(r"^(pip|python)\s*(=.*)?$")
"""What every environment has; which pip installs is hpctf's affair."""

_PYTHON = re.compile(r"^python\s*={1,2}\s*(\S+)$")


def without_sdk(packages: Sequence[str], notes: list[str]) -> list[str]:
    """Return packages without Azure ML's own, and note those left out.

    With ``azureml-core`` in the training's environment, what scripts log would go nowhere
    (docs/from-azure-ml.md).
    """
    kept = [package for package in packages if not _SDK.match(package)]
    notes += [
        f"{package} is left out: hpctf's own azureml.core stands in for it in the run."
        for package in packages
        if package not in kept
    ]
    return kept


@refuses("CondaDependencies")
class CondaDependencies:
    """Packages, as in an ``environment.yml``; those of such a file, to begin with."""

    def __init__(self, conda_dependencies_file_path: str | os.PathLike[str] | None = None) -> None:
        self._channels: list[str] = []
        self._conda: list[str] = []
        self._pip: list[str] = []
        self._python: str | None = None
        if conda_dependencies_file_path is not None:
            self._read(Path(os.path.expanduser(conda_dependencies_file_path)).absolute())

    def __bool__(self) -> bool:
        """Whether it names anything."""
        return bool(self._channels or self._conda or self._pip or self._python)

    @staticmethod
    def create(
        pip_indexurl: str | None = None,
        pip_packages: Sequence[str] | None = None,
        conda_packages: Sequence[str] | None = None,
        python_version: str | None = None,
        pin_sdk_version: bool = True,
    ) -> CondaDependencies:
        """Return these packages."""
        if pip_indexurl is not None:
            raise UsageError(
                "CondaDependencies.create() has no pip_indexurl in hpctf.",
                "Name the index in the site file (environments.index_url), or in a requirements "
                "file: Environment.from_pip_requirements(name, file).",
            )
        made = CondaDependencies()
        for package in pip_packages or ():
            made.add_pip_package(package)
        for package in conda_packages or ():
            made.add_conda_package(package)
        if python_version is not None:
            made.set_python_version(python_version)
        return made

    @property
    def conda_channels(self) -> list[str]:
        """The channels."""
        return list(self._channels)

    @property
    def conda_packages(self) -> list[str]:
        """The conda packages, without Python."""
        return list(self._conda)

    @property
    def pip_packages(self) -> list[str]:
        """The pip packages."""
        return list(self._pip)

    def get_python_version(self) -> str | None:
        """Return Python's version; None: hpctf's choice."""
        return self._python

    def set_python_version(self, version: str) -> None:
        """Set Python's version."""
        self._python = str(version)

    def add_channel(self, channel: str) -> None:
        """Add a channel of conda packages."""
        self._channels.append(channel)

    def remove_channel(self, channel: str) -> None:
        """Remove a channel."""
        self._channels.remove(channel)

    def add_conda_package(self, conda_package: str) -> None:
        """Add a conda package; ``python=3.11`` sets Python's version."""
        found = _PYTHON.match(conda_package.strip())
        if found:
            self._python = found[1]
        elif not _PROVIDED.match(conda_package.strip()):
            self._conda.append(conda_package)

    def remove_conda_package(self, conda_package: str) -> None:
        """Remove a conda package."""
        self._conda.remove(conda_package)

    def add_pip_package(self, pip_package: str) -> None:
        """Add a pip package."""
        self._pip.append(pip_package)

    def remove_pip_package(self, pip_package: str) -> None:
        """Remove a pip package."""
        self._pip.remove(pip_package)

    def set_pip_requirements(self, pip_requirements: Sequence[str]) -> None:
        """Replace the pip packages."""
        self._pip = [str(line) for line in pip_requirements]

    def as_dict(self) -> dict[str, Any]:
        """Return it as an ``environment.yml`` has it."""
        python = "python" if self._python is None else f"python={self._python}"
        pip: list[Any] = ["pip", {"pip": self._pip}] if self._pip else []
        return {
            "name": "project_environment",
            "channels": self.conda_channels,
            "dependencies": [python, *self._conda, *pip],
        }

    def serialize_to_string(self) -> str:
        """Return the text of an ``environment.yml``."""
        import yaml

        return str(yaml.safe_dump(self.as_dict(), sort_keys=False))

    def save(self, path: str | os.PathLike[str] | None = None) -> str:
        """Write an ``environment.yml``, and return its path."""
        target = Path(path or "conda_dependencies.yml")
        target.write_text(self.serialize_to_string())
        return str(target)

    def save_to_file(
        self, base_directory: str, conda_file_path: str | os.PathLike[str] | None = None
    ) -> str:
        """Write an ``environment.yml`` below a folder, and return its path there."""
        name = os.fspath(conda_file_path or "conda_dependencies.yml")
        self.save(os.path.join(base_directory, name))
        return name

    def _asked(self, scratch: Path, notes: list[str]) -> dict[str, Any]:
        """Return the estimator's parameters; pip packages alone are such: they need no conda."""
        wanted = copy.deepcopy(self)
        wanted._pip = without_sdk(self._pip, notes)
        wanted._conda = without_sdk(self._conda, notes)
        if not wanted._conda:
            return {"pip_packages": wanted._pip or None, "python_version": wanted._python}
        return {"conda_dependencies_file": wanted.save(scratch / "environment.yml")}

    def _read(self, path: Path) -> None:
        _, content = read_conda_file(path)
        self._channels = [str(name) for name in content.get("channels") or ()]
        for item in content.get("dependencies") or ():
            if isinstance(item, Mapping):
                self._pip += [str(line) for line in item.get("pip") or ()]
            else:
                self.add_conda_package(str(item))


@sealed
@refuses("PythonSection")
class PythonSection:
    """``Environment.python``: packages, or a Python that somebody manages."""

    def __init__(self) -> None:
        self.conda_dependencies: CondaDependencies | None = CondaDependencies()
        self.conda_dependencies_file: str | None = None
        self.user_managed_dependencies = False
        self.interpreter_path = "python"


@sealed
@refuses("DockerSection")
class DockerSection:
    """``Environment.docker``: the image, if there is one."""

    def __init__(self) -> None:
        self.enabled = False
        self.base_image: str | None = None
        self.arguments: list[str] = []
        self.shm_size: str | None = None
        self.gpu_support = True
        self.shared_volumes = True


@sealed
@refuses("Environment")
class Environment:
    """The software that a run uses: it is known by what is in it, whatever people call it."""

    def __init__(self, name: str, **kwargs: Any) -> None:
        self.name = name
        self.version: str | None = None
        self.environment_variables: dict[str, str] = {}
        self.python = PythonSection()
        self.docker = DockerSection()
        self.framework_version: str | None = None
        self.pip_requirements_file: str | None = None
        self.notes: list[str] = []

    def __repr__(self) -> str:
        return f"Environment(name={self.name!r})"

    @staticmethod
    def get(
        workspace: OfSite, name: str, version: str | None = None, label: str | None = None
    ) -> Environment:
        """Return one of Azure ML's environments for TensorFlow by its name.

        hpctf builds an environment with that version of TensorFlow; where the name's is older than
        what hpctf is tested with, a note says which one the run gets.

        Raises
        ------
        UsageError
            It is not one of those: hpctf keeps no register of environments.
        """
        found = _CURATED.match(name)
        if found is None:
            raise UsageError(
                f"hpctf has no environment {shown(name)}: it keeps no register of them.",
                "Name its packages: Environment.from_pip_requirements(name, file) or "
                "Environment.from_conda_specification(name, file).",
            )
        environment = Environment(name)
        version_of_name = found["version"]
        if tuple(map(int, version_of_name.split("."))) >= _OLDEST:
            environment.framework_version = version_of_name
        else:
            environment.notes.append(
                NAMES_NONE.format(f"TensorFlow {version_of_name} of environment {name}")
            )
        return environment

    @staticmethod
    def from_conda_specification(name: str, file_path: str) -> Environment:
        """Return an environment of the packages in an ``environment.yml``."""
        environment = Environment(name)
        environment.python.conda_dependencies = CondaDependencies(file_path)
        return environment

    @staticmethod
    def from_pip_requirements(
        name: str, file_path: str, pip_version: str | None = None
    ) -> Environment:
        """Return an environment of the packages in a requirements file."""
        environment = Environment(name)
        environment.pip_requirements_file = os.path.abspath(os.path.expanduser(file_path))
        return environment

    @staticmethod
    def from_docker_image(
        name: str,
        image: str,
        container_registry: object = None,
        conda_specification: str | None = None,
        pip_requirements: str | None = None,
    ) -> Environment:
        """Return the environment of an image, which the site's container runtime runs."""
        environment = Environment(name)
        environment.docker.base_image = image
        environment.docker.enabled = True
        if conda_specification is not None:
            environment.python.conda_dependencies = CondaDependencies(conda_specification)
        environment.pip_requirements_file = pip_requirements
        return environment

    def clone(self, new_name: str) -> Environment:
        """Return a copy with another name."""
        new = copy.deepcopy(self)
        new.name = new_name
        return new

    def register(self, workspace: OfSite) -> Environment:
        """Return it: an environment is known by what is in it, and built once."""
        return self

    def asked(self, scratch: Path, notes: list[str]) -> dict[str, Any]:
        """Return the estimator's parameters that ask for it; `notes` takes what the person should
        know, and `scratch` files that are read when the run is planned."""
        notes += self.notes
        asked: dict[str, Any] = {
            "environment_variables": dict(self.environment_variables) or None,
            "framework_version": self.framework_version,
            "pip_requirements_file": self.pip_requirements_file,
        }
        if self.docker.base_image is not None:
            asked["custom_docker_image"] = self.docker.base_image
        section = self.python
        if section.user_managed_dependencies:
            own = section.interpreter_path != "python"
            return asked | ({"python": section.interpreter_path} if own else {"user_managed": True})
        packages = section.conda_dependencies
        if not packages and section.conda_dependencies_file:
            packages = CondaDependencies(section.conda_dependencies_file)
        if not packages:
            return asked
        image = asked.pop("custom_docker_image", None)
        if image is not None:
            notes.append(
                f"Image {image} is left out: environment {self.name} names packages, and hpctf "
                "installs them without an image."
            )
        return asked | packages._asked(scratch, notes)
