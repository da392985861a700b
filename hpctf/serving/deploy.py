"""Deploying models: all is checked, a service's folder is made, and a server started."""

from __future__ import annotations

import contextlib
import os
import platform
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from hpctf.common.absence import problem_of
from hpctf.common.command_line import check_path
from hpctf.common.files import cannot_write, make_folder
from hpctf.common.folders import remove_tree
from hpctf.common.notes import notify
from hpctf.common.numbered import hidden_name
from hpctf.common.trusted_path import check_chosen, check_tree
from hpctf.environment.interpreters import inspect
from hpctf.environment.own import own_python
from hpctf.environment.progress import Tell, tell_nobody
from hpctf.environment.store import Store
from hpctf.errors import UsageError
from hpctf.models.onnx_model import onnx_file
from hpctf.models.version import Version
from hpctf.planning.resources import Resources, notes_without_slurm
from hpctf.serving.launch import check_can_stay_up, start_server
from hpctf.serving.record import (
    CODE,
    KEYS,
    TOKENS,
    Definition,
    Entry,
    ServiceFolder,
    check_service_name,
)
from hpctf.serving.status import status_of, stop
from hpctf.site.loading import find_target
from hpctf.site.model import Site
from hpctf.site.trust import trusted_by
from hpctf.source.snapshot import take_snapshot

_TOKEN_BYTES = 32


@dataclass(frozen=True)
class InferenceConfig:
    """An entry script to deploy, with ``init()`` and ``run(data)`` as in Azure ML.

    Parameters
    ----------
    entry_script
        The file; with a `source_directory`, as seen from there.
    source_directory
        The folder that goes with it, and that it imports from; None: the file alone.
    environment
        The name of an environment in the site's store, or an interpreter; None is hpctf's own for
        serving, which has numpy and onnxruntime.
    timeout_s
        Seconds that ``run`` may take before its process is ended.
    """

    entry_script: str
    source_directory: str | os.PathLike[str] | None = None
    environment: str | None = None
    timeout_s: float = 60.0


@dataclass(frozen=True)
class Deployment:
    """Where and how a service runs.

    Parameters
    ----------
    is_local
        As a process of this machine, which answers this machine alone; else as a Slurm job.
    port
        The port to listen on; by default one of the site's range.
    resources
        What is asked of Slurm.
    stays_up
        Whether each job submits the next one before its time limit.
    limits
        Other values of the server's limits (`hpctf.serving.server.limits`).
    drain_s
        Seconds that a server goes on answering after another one has taken over.
    use_gpu
        Whether its job gets a GPU, on which ONNX models run; None: if the target has GPUs.
    """

    is_local: bool = False
    port: int | None = None
    resources: Resources = field(default_factory=Resources)
    stays_up: bool = False
    limits: Mapping[str, Any] = field(default_factory=dict)
    drain_s: float = 30.0
    use_gpu: bool | None = None


def deploy(
    root: Path,
    site: Site,
    name: str,
    models: Sequence[Version],
    script: InferenceConfig | None = None,
    deployment: Deployment | None = None,
    *,
    overwrite: bool = False,
    tell: Tell = tell_nobody,
) -> ServiceFolder:
    """Deploy models as a service whose folder lies in `root`, and return it; it may not be ready.

    Raises
    ------
    UsageError
        The name is not valid or taken, a model is not ONNX and there is no script, or the script is
        not there.
    UntrustedPath, UnreadableModel
        Others could exchange a model, or it is not what was registered.
    BuildError, SiteError
        hpctf's environment for serving cannot be built.
    SubmissionError, SchedulerError
        Slurm refused, or could not be asked: nothing was left behind.
    """
    asked = deployment or Deployment(is_local=site.scheduler == "local")
    check_service_name(name)
    service = ServiceFolder(root / name)
    before = _inode(service.path)
    exists = os.path.lexists(service.path / TOKENS)
    if exists and not overwrite and status_of(service).state in ("waiting", "starting", "ready"):
        raise _taken(name)
    _check(models, script, site)
    if script is not None:
        _check_there(script, site)
    resources = _resources(asked, site)
    definition = Definition(
        name=name,
        models={version.id: str(version.path) for version in models},
        python=str(own_python(_environment(resources, script), site, tell)),
        site=asdict(site),
        resources=asdict(resources),
        is_local=asked.is_local or site.scheduler == "local",
        stays_up=asked.stays_up,
        ports=(site.ports.first, site.ports.last) if asked.port is None else (asked.port,) * 2,
        limits=dict(asked.limits),
        drain_s=asked.drain_s,
    )
    check_can_stay_up(definition)
    if definition.is_local:
        if resources.target is not None:
            find_target(site, resources.target)
        for note in notes_without_slurm(resources, "the service"):
            notify(note)

    if exists:
        stop(service)
    _take_name(service, before)
    try:
        service.write_keys({which: secrets.token_urlsafe(_TOKEN_BYTES) for which in KEYS})
        _start(service, definition, script, site)
    except BaseException:
        remove_tree(service.path)
        raise
    return service


def _take_name(service: ServiceFolder, before: int | None) -> None:
    """Make a service's folder in the place of the one that was there before: of several who deploy
    it at once one gets it, and no server is left without its folder.

    Parameters
    ----------
    before
        The inode of the folder that was looked at; None: there was none.
    """
    place = service.path
    place.parent.mkdir(parents=True, exist_ok=True)
    if before is not None:
        aside = place.with_name(hidden_name())
        with contextlib.suppress(FileNotFoundError):
            os.rename(place, aside)
            if _inode(aside) != before:
                os.rename(aside, place)
                raise _taken(service.name)
        remove_tree(aside)
    try:
        make_folder(place)
    except FileExistsError:
        raise _taken(service.name) from None


def _inode(folder: Path) -> int | None:
    try:
        return os.lstat(folder).st_ino
    except OSError:
        return None


def _taken(name: str) -> UsageError:
    return UsageError(
        f"There is a service {name} already.",
        f"Stop it (hpctf services stop {name}), replace it (--overwrite), or pass another --name.",
    )


def _resources(asked: Deployment, site: Site) -> Resources:
    """Return what a server's job asks for: one GPU, if it is to run on one."""
    use_gpu = asked.use_gpu
    if use_gpu is None:
        on_slurm = not asked.is_local and site.scheduler != "local"
        use_gpu = on_slurm and bool(find_target(site, asked.resources.target)[1].gpus)
    return replace(asked.resources, use_gpu=True, gpus=1) if use_gpu else asked.resources


def _environment(resources: Resources, script: InferenceConfig | None) -> str:
    """Return which of hpctf's own environments serves. An entry script with its own brings what it
    needs of a GPU; onnxruntime has packages for CUDA on x86 alone."""
    needs_cuda = resources.use_gpu and (script is None or script.environment is None)
    return "serving-gpu" if needs_cuda and platform.machine() == "x86_64" else "serving"


def _start(
    service: ServiceFolder, definition: Definition, script: InferenceConfig | None, site: Site
) -> None:
    """Start a server, with a script of its own if one is given; nothing is left of a failure."""
    server = service.new_server()
    try:
        if script is not None:
            entry = _copy(script, server / CODE, definition.python, site)
            definition = replace(definition, entry=entry)
        start_server(service, server, definition)
    except OSError as error:
        remove_tree(server)
        raise cannot_write(server, error) from None
    except BaseException:
        remove_tree(server)
        raise


def update(
    service: ServiceFolder,
    models: Sequence[Version] | None = None,
    script: InferenceConfig | None = None,
) -> None:
    """Give a service other models or another script: a new server takes over once it is ready.

    Raises
    ------
    UsageError, UntrustedPath, UnreadableModel
        As `deploy`: the service is as it was.
    """
    definition = service.definition()
    site = definition.of_site
    versions = [Version(Path(folder)) for folder in definition.models.values()]
    versions = versions if models is None else list(models)
    _check(versions, script or definition.entry, site)
    if script is not None:
        _check_there(script, site)
    if definition.is_local and definition.ports[0] == definition.ports[1]:
        stop(service)  # two servers cannot have the port: hpctf's clients wait for the second
    changed = replace(definition, models={version.id: str(version.path) for version in versions})
    _start(service, changed, script, site)


def make_key(service: ServiceFolder, which: str, key: str | None = None) -> None:
    """Make one of a service's tokens anew: within a second the old one is no longer accepted.

    Raises
    ------
    UsageError
        `which` is neither ``primary`` nor ``secondary``, or the key is too short.
    """
    if which.lower() not in KEYS:
        raise UsageError(f"The key is {which!r}, but must be 'primary' or 'secondary'.")
    if key is not None and (len(key) < 20 or not key.isascii() or not key.isprintable()):
        raise UsageError("A key must have 20 or more letters, digits and signs of ASCII.")
    known = dict(zip(KEYS, service.keys(), strict=True))
    service.write_keys({**known, which.lower(): key or secrets.token_urlsafe(_TOKEN_BYTES)})


def _check(models: Sequence[Version], script: InferenceConfig | Entry | None, site: Site) -> None:
    """Refuse what the server would refuse."""
    if not models and script is None:
        raise UsageError("Name a model, or an entry script.")
    names = [version.name for version in models]
    if len(set(names)) < len(names):
        raise UsageError(
            f"A service has one version of a model: {', '.join(names)}.",
            "Deploy the other version as a service of its own.",
        )
    for version in models:
        check_tree(version.path, f"Model {version.id}", trusted_by(site))
        if script is None:
            onnx_file(version)
        else:
            version.verified()


def _check_there(script: InferenceConfig, site: Site) -> None:
    named = Path(script.source_directory or "", script.entry_script)
    check_path("The entry script", named)
    problem = "is a folder" if os.path.isdir(named) else problem_of(named)
    if problem is not None:
        raise UsageError(
            f"The entry script {str(named)!r} {problem}.",
            "Name the script relative to source_directory.",
        )
    _python(script.environment, "", site)


def _source(script: InferenceConfig) -> tuple[Path, str]:
    """Return the folder that goes with the script, and the script's path in it."""
    if script.source_directory is not None:
        return Path(os.path.realpath(script.source_directory)), script.entry_script
    path = Path(os.path.realpath(script.entry_script))
    return path.parent, path.name


def _python(environment: str | None, own: str, site: Site) -> str:
    if environment is None:
        return own
    if os.sep not in environment:
        return str(Store(site).find(environment).python)
    python = os.path.abspath(environment)
    if inspect(python) is None:
        raise UsageError(
            f"{environment!r} is not a Python that runs here.",
            "Name the path of an interpreter, or leave the environment out.",
        )
    check_chosen(python, "Python", trusted_by(site))
    return python


def _copy(script: InferenceConfig, to: Path, own: str, site: Site) -> Entry:
    """Copy the script and its folder, and return what runs it."""
    source, name = _source(script)
    alone = {name} if script.source_directory is None else None  # what lies beside was not named
    take_snapshot(source, to, site.max_snapshot_mb, name, names=alone)
    return Entry(name, str(to), _python(script.environment, own, site), script.timeout_s)
