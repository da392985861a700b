"""What a training runs in, as a person asks for it: packages, a Python of their own, an image.

The names are Azure ML v1's. Packages make a new environment; everything else names one that is
there, so the two contradict each other.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hpctf.common.command_line import check_path
from hpctf.errors import UsageError, shown
from hpctf.estimator.validators import check_list, check_name
from hpctf.site.model import MODULE

_VERSION = re.compile(r"\A[0-9]+(\.[0-9]+)*(\.\*)?\Z")
_SCHEME = re.compile(r"\A[a-z][a-z-]*://\S+\Z")
_IMAGE = re.compile(r"\A[A-Za-z0-9][A-Za-z0-9_.:/@#-]*\Z")
_IMAGE_FILES = (
    *(".sif", ".sqsh", ".sqfs", ".squashfs", ".img", ".simg"),
    *(".tar", ".tar.gz", ".tar.xz", ".tar.zst", ".tgz"),
)

PACKAGES = (
    *("conda_packages", "pip_packages", "conda_dependencies_file", "pip_requirements_file"),
    *("framework_version", "python_version"),
)
"""The parameters that ask for a new environment."""

NOT_HERE = {
    "vm_size": "A cluster's machines are chosen by compute_target (--target); gpus_per_node, "
    "cpus_per_task and mem ask for parts of them.",
    "vm_priority": "Say sbatch={'qos': ...} or a partition's target (compute_target); a job that "
    "may be pre-empted continues from its checkpoints with max_restarts.",
    "image_registry_details": "Log in to the registry with the container runtime itself "
    "(apptainer registry login), or fetch the image to a file and name that: container='x.sif'.",
    "shm_size": "Containers on a cluster share the node's /dev/shm: nothing need be said.",
    "environment_definition": "Say what it holds: pip_packages, conda_dependencies_file, "
    "python_version, environment_variables, container.",
    "source_directory_data_store": "source_directory lies on the cluster's own file system: data "
    "come by inputs={'name': '/path'}.",
}
"""Azure ML's parameters that mean nothing on a cluster, and what does."""


def names_packages(estimator: object) -> bool:
    """Whether an estimator asks for a new environment."""
    return any(getattr(estimator, name) for name in PACKAGES)


def check_packages(parameter: str, values: Sequence[str] | None) -> list[str]:
    """Return packages as requirements, no options among them."""
    packages = check_list(parameter, values)
    for package in packages:
        if not package.strip() or not package.isprintable():
            raise UsageError(
                f"{parameter}: {shown(package)} is no package.",
                "Write it as pip does: name==version.",
            )
        if package.startswith("-"):
            raise UsageError(
                f"{parameter}: {shown(package)} is an option, not a package.",
                "Write options into a file: pip_requirements_file (--pip-file).",
            )
    return packages


def check_file(
    parameter: str, path: str | os.PathLike[str] | None, source_directory: Path | None
) -> str | None:
    """Return a file's absolute path; it is looked for in the source folder, then here."""
    if path is None:
        return None
    if not isinstance(path, (str, os.PathLike)) or not os.fspath(path):
        raise UsageError(f"{parameter} must be a file's path, not {shown(path)}.")
    check_path(parameter, path)
    text = os.path.expanduser(os.fspath(path))
    places = [folder for folder in (source_directory, Path.cwd()) if folder is not None]
    for folder in places:
        if os.path.isfile(folder / text):
            return os.path.abspath(folder / text)
    looked = " or ".join(dict.fromkeys(repr(str(folder)) for folder in places))
    raise UsageError(
        f"{parameter} is {shown(text)}, but there is no such file"
        f"{'' if os.path.isabs(text) else f' in {looked}'}.",
        "Check the path.",
    )


def check_version(parameter: str, version: str | None) -> str | None:
    """Return a version, as text."""
    if version is None:
        return None
    if not isinstance(version, str) or not _VERSION.match(version):
        raise UsageError(
            f"{parameter} is {shown(version)}, but must be a version as text, such as "
            f"{'3.11' if parameter == 'python_version' else '2.15'!r}."
        )
    return version


def check_python(parameter: str, python: str | os.PathLike[str] | None) -> str | None:
    """Return an interpreter's name or path."""
    return check_name(parameter, os.fspath(python) if isinstance(python, os.PathLike) else python)


def check_modules(parameter: str, values: Sequence[str] | None) -> list[str]:
    """Return environment modules, one name each."""
    modules = check_list(parameter, values)
    for name in modules:
        if not MODULE.match(name):
            raise UsageError(
                f"{parameter}: {shown(name)} is not an environment module's name, such as "
                "'cuda/12.2'.",
                "Name each module in an item of its own: gcc/12, then openmpi.",
            )
    return modules


def check_container(
    parameter: str,
    image: str | os.PathLike[str] | None,
    docker: str | None,
    use_docker: bool | None,
) -> str | None:
    """Return the image: an absolute path, or with the scheme that says where it comes from."""
    if docker is not None and image is not None and docker != image:
        raise UsageError(
            f"{parameter} is {shown(image)}, but custom_docker_image is {shown(docker)}.",
            "Give one of the two.",
        )
    chosen = image if docker is None else docker
    parameter = parameter if docker is None else "custom_docker_image"
    if chosen is None:
        if use_docker:
            raise UsageError(
                "use_docker is set, but no image is named, and hpctf has none of its own.",
                "Name one: container=... or custom_docker_image=... (--container); or leave "
                "use_docker out.",
            )
        return None
    if use_docker is False:
        raise UsageError(f"{parameter} is {shown(chosen)}, but use_docker is False.", "Drop one.")
    return _image(parameter, chosen, is_file=docker is None)


def _image(parameter: str, given: Any, *, is_file: bool) -> str:
    if not isinstance(given, (str, os.PathLike)) or not os.fspath(given):
        raise UsageError(f"{parameter} must be an image's name or file, not {shown(given)}.")
    image = os.fspath(given)
    check_path(parameter, image)
    if _SCHEME.match(image):
        return image
    path = os.path.abspath(os.path.expanduser(image))
    if is_file and os.path.exists(path):
        return path
    if image.endswith(_IMAGE_FILES) or image.startswith(("/", ".", "~")):
        raise UsageError(
            f"{parameter} is {shown(image)}, but there is no such image file.",
            "Check the path, or name an image of a registry: docker://tensorflow/tensorflow:2.15.0.",
        )
    if not _IMAGE.match(image):
        raise UsageError(
            f"{parameter} is {shown(image)}, but must be an image file (x.sif, x.sqfs) or "
            "folder, or a name such as docker://tensorflow/tensorflow:2.15.0."
        )
    return f"docker://{image}"


def refuse_contradictions(asked: Any) -> None:
    """Refuse packages beside what is complete: an image, or an interpreter of their own."""
    packages = next((name for name in PACKAGES if getattr(asked, name)), None)
    if packages is not None:
        value = shown(getattr(asked, packages))
        if asked.container is not None:
            raise UsageError(
                f"{packages} is {value}, but container is {asked.container!r}: an image is "
                "complete, and nothing is installed into it.",
                "Build the packages into the image, or leave the container out.",
            )
        if asked.python is not None or asked.user_managed:
            other = f"python is {asked.python!r}" if asked.python else "user_managed is set"
            raise UsageError(
                f"{packages} is {value}, but {other}: packages make an environment of their "
                "own, and nothing is installed into one that is there.",
                "Leave one of the two out, or install the packages there yourself.",
            )
