"""How a run gets into its training environment: which Python, which modules, which container.

Four ways: an environment that hpctf builds, a Python that is there, environment modules that bring
one, and an image. Apptainer and Charliecloud are called by each rank around the training alone;
Pyxis starts the rank itself inside the image, since it is srun that enters it.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hpctf.common.trusted_path import Trusted, check_chosen, parts_of_python
from hpctf.environment.binds import Bind, binds_of
from hpctf.environment.toolchain import in_order
from hpctf.errors import SiteError, UsageError
from hpctf.plan import Container
from hpctf.site.trust import trusted_by

if TYPE_CHECKING:
    from hpctf.environment.spec import EnvironmentSpec
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.site.model import Site

_PYTHON = "python3"
"""What a container's or a module's Python is called unless the person says otherwise."""

_GPU_OPTIONS = ("--nv", "--nvccli", "--rocm")


@dataclass(frozen=True)
class Entering:
    """How the training is entered.

    Parameters
    ----------
    python
        The training's interpreter: an absolute path, or a name that is looked for on the node's
        PATH, after the modules, or in the container.
    modules
        Environment modules to load, in order.
    environment
        Key of the environment that hpctf builds, or empty.
    container
        What each rank calls around the training.
    step_options
        srun's options that enter an image.
    rank_python
        The interpreter of the ranks' wrapper, where it is not hpctf's own.
    notes
        What the person should be told.
    """

    python: str
    modules: tuple[str, ...] = ()
    environment: str = ""
    container: Container | None = None
    step_options: tuple[str, ...] = ()
    rank_python: str = ""
    notes: tuple[str, ...] = ()

    @property
    def inside(self) -> bool:
        """Whether the training runs in an image, with the image's Python."""
        return self.container is not None or bool(self.step_options)


def enter(
    estimator: TensorFlow, site: Site, spec: EnvironmentSpec | None, run_folder: str
) -> Entering:
    """Return how a run gets into its environment: `spec`, if one is built for it.

    Raises
    ------
    UsageError, SiteError
        There is no such Python here, or no such container on this site.
    """
    modules = in_order(site.modules, spec.modules if spec else (), estimator.modules)
    if estimator.container is not None:
        return _container(estimator, site, modules, run_folder)
    if spec is not None:
        from hpctf.environment.store import Store

        return Entering(str(Store(site).python_of(spec)), modules, environment=spec.key)
    python, notes = _interpreter(estimator, modules, trusted_by(site))
    return Entering(python, modules, notes=notes)


def _interpreter(
    estimator: TensorFlow, modules: tuple[str, ...], by: Trusted
) -> tuple[str, tuple[str, ...]]:
    """Return (the training's interpreter, what to note of it).

    A link stays a link, since a virtual environment is known by it.
    """
    named = estimator.python
    if named is None:
        if not estimator.user_managed and not estimator.modules:
            return sys.executable, ()
        named = _PYTHON
    if modules and os.sep not in named:
        return named, ()
    found = shutil.which(os.path.expanduser(named))
    if found is None:
        raise UsageError(
            f"python is {named!r}, but there is no such program.",
            "Name the interpreter of an environment, such as ~/my-env/bin/python.",
        )
    python = str(Path(found).absolute())
    if python == sys.executable:
        return python, ()
    notes = [check_chosen(part, "Python", by) for part in parts_of_python(python)]
    return python, tuple(filter(None, notes))[:1]


def _container(
    estimator: TensorFlow, site: Site, modules: tuple[str, ...], run_folder: str
) -> Entering:
    image = estimator.container
    assert image is not None
    python = estimator.python or _PYTHON
    noted = check_chosen(image, "The image", trusted_by(site)) if os.path.isabs(image) else None
    note = () if noted is None else (noted,)
    binds = binds_of(estimator, site, run_folder)
    runtime, options = site.containers.runtime, site.containers.options
    if runtime == "pyxis":
        if site.scheduler == "local":
            raise SiteError(
                f"Site {site.name!r} has no Slurm, but its containers.runtime is 'pyxis', which "
                "is a part of Slurm's.",
                "Set containers: {runtime: apptainer} in the site file.",
            )
        mounts = f"--container-mounts={','.join(bind.words for bind in binds)}"
        entered = (f"--container-image={_enroot(image)}", mounts, *options)
        return Entering(python, modules, step_options=entered, rank_python=_PYTHON, notes=note)
    if runtime == "charliecloud":
        from hpctf.environment.charliecloud import container_of

        return Entering(python, modules, container=container_of(image, binds, site), notes=note)
    container = Container(
        command=(runtime, "exec", *options, *_bind_options(binds)),
        image=image,
        gpu_options=() if set(options) & set(_GPU_OPTIONS) else ("--nv",),
    )
    return Entering(python, modules, container=container, notes=(*_notes(image, runtime), *note))


def _bind_options(binds: Iterable[Bind]) -> Iterable[str]:
    for bind in binds:
        yield "--bind"
        yield bind.words if bind.read_only or bind.source != bind.target else bind.source


def _enroot(image: str) -> str:
    """Return an image as Pyxis names it: a file, or ``[REGISTRY#]NAME[:TAG]``."""
    name = image.removeprefix("docker://")
    if name == image or "#" in name:
        return name
    first, slash, rest = name.partition("/")
    # The first part of a name is a registry if it looks like a host (docker's own rule).
    if slash and ("." in first or ":" in first or first == "localhost"):
        return f"{first}#{rest}"
    return name


def _notes(image: str, runtime: str) -> tuple[str, ...]:
    if "://" not in image:
        return ()
    return (
        f"every node fetches {image} when the run starts; once is enough: "
        f"{runtime} build image.sif {image}, and --container image.sif",
    )
