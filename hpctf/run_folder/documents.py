"""The documents of a run folder, read with care: ``run.json``, ``plan.json`` and what is in
``state/``.

Whatever lies where a document should be, a reader gets a whole one of the right types, or one error
that says which file of which run is wrong, and how (docs/run-folder.md, "The documents").
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, field
from typing import Any, Literal, TypedDict

from hpctf.common.files import put_back, read_json
from hpctf.common.forms import FormError, checked
from hpctf.errors import UnreadableRun, shown
from hpctf.plan import Plan

FORMAT = 1
"""Version of ``run.json`` and ``plan.json`` that is written, and the newest that is read."""

_JOB_ID = re.compile(r"[0-9]{1,18}([_+][0-9]{1,9})?")
"""A process's number, or Slurm's: with ``_`` of an array, and with ``+`` of a het job."""

MOST_RANKS = 100_000
"""Ranks of the largest run: beyond that, a number is a mistake."""


@dataclass(frozen=True)
class Submitter:
    """The process that submits a run."""

    host: str
    pid: int
    start_time: str | None = None


@dataclass(frozen=True)
class Git:
    """What git said of the source folder (`hpctf.source.git.GitState`)."""

    commit: str | None = None
    branch: str | None = None
    dirty: bool | None = None
    untracked: bool | None = None
    remote: str | None = None
    problem: str | None = None


@dataclass(frozen=True)
class Build:
    """The job that builds a run's environment."""

    job_id: str
    cluster: str | None = None
    name: str = ""
    folder: str = ""


@dataclass(frozen=True)
class Function:
    """The function that a run calls."""

    name: str
    text: str | None = None


class Request(TypedDict, total=False):
    """What was requested; a key that is missing means the usual (`hpctf.estimator.request`)."""

    entry_script: str | None
    script_params: dict[str, Any] | None
    arguments: list[Any] | dict[str, Any] | None
    environment_variables: dict[str, Any] | None
    inputs: dict[str, Any] | None
    stage: dict[str, Any] | None
    after: list[str]
    sbatch: dict[str, Any] | None
    modules: list[str] | None
    site: str | None
    settings: list[str]
    tags: dict[str, Any] | None
    properties: dict[str, Any] | None
    function: Function | None


@dataclass(frozen=True)
class Record:
    """``run.json``. What is not there has the default."""

    id: str
    experiment: str = ""
    format: int = FORMAT
    job_id: str | None = None
    job_name: str | None = None
    cluster: str | None = None
    more_jobs: list[str] = field(default_factory=list)
    array_index: int | None = None
    job_host: str | None = None
    job_start_time: str | None = None
    submitter: Submitter | None = None
    submitted: float | None = None
    user: str | None = None
    host: str | None = None
    command: list[Any] = field(default_factory=list)
    source_directory: str | None = None
    git_commit: str | None = None
    git: Git | None = None
    request: Request | None = None
    parameters: dict[str, Any] = field(default_factory=dict)
    resubmitted_from: str | None = None
    kind: str | None = None
    study: str | None = None
    trial: int | None = None
    environment: str | None = None
    build: Build | None = None
    notes: list[str] = field(default_factory=list)
    versions: dict[str, str] = field(default_factory=dict)


class Final(TypedDict):
    """``state/final.json``."""

    state: Literal["Completed", "Failed", "Canceled"]
    reason: str
    exit_code: int | None
    id: str
    experiment: str
    run_folder: str
    job_id: str | None
    cluster: str | None
    backend: str
    site: str
    target: str
    submitted: float | None
    ended: float | None
    user: str | None
    git_commit: str | None
    ranks: int
    time: float


@dataclass(frozen=True)
class Cancelled:
    """``state/cancel.json``."""

    time: float = 0.0
    by: str = ""


@dataclass(frozen=True)
class Energy:
    """``state/energy.json``: the joules of the run's nodes, None if nobody will ever know, and the
    ``time`` of the ``final.json`` that it is of."""

    joules: int | None = None
    time: float = 0.0


def read_record(run_folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return ``run.json``, for its owner with what is confidential.

    Raises
    ------
    UnreadableRun
        The file is not there, or is not such a document.
    """
    record = _read(run_folder, "run.json", Record)
    job_id = record["job_id"]
    if job_id is not None and not _JOB_ID.fullmatch(job_id):
        wrong = f"job_id is {shown(job_id, 40)}, but must be a job's number"
        raise UnreadableRun(os.fspath(run_folder), "run.json", wrong)
    return record


def read_plan(run_folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return ``plan.json``, for its owner with what is confidential.

    Raises
    ------
    UnreadableRun
        The file is not there, or is not such a document.
    """
    plan = _read(run_folder, "plan.json", Plan)
    wrong = _contradiction(plan)
    if wrong:
        raise UnreadableRun(os.fspath(run_folder), "plan.json", wrong)
    return plan


def read_final(run_folder: str | os.PathLike[str]) -> dict[str, Any] | None:
    """Return ``state/final.json``; None if the run is not settled, or that file is broken."""
    try:
        return checked(_load(run_folder, "state/final.json"), Final)
    except (OSError, ValueError):
        return None


def read_cancelled(run_folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return ``state/cancel.json``; of a broken file, nothing but that it is there."""
    try:
        return checked(_load(run_folder, "state/cancel.json"), Cancelled)
    except (OSError, ValueError):
        return checked({}, Cancelled)


def read_energy(run_folder: str | os.PathLike[str]) -> dict[str, Any]:
    """Return ``state/energy.json``; of none and of a broken one, that of no ``final.json``."""
    try:
        return checked(_load(run_folder, "state/energy.json"), Energy)
    except (OSError, ValueError):
        return checked({}, Energy)


def _read(run_folder: str | os.PathLike[str], name: str, form: type) -> dict[str, Any]:
    try:
        document = _load(run_folder, name)
        found = document.get("format", FORMAT) if isinstance(document, dict) else FORMAT
        if type(found) is not int or found < 1:
            raise FormError(f"format is {shown(found, 40)}, but must be a whole number")
        if found > FORMAT:
            raise UnreadableRun(
                os.fspath(run_folder),
                name,
                f"a newer hpctf made it (format {found}; this one reads up to {FORMAT})",
                "Update hpctf.",
            )
        return checked(put_back(os.path.join(run_folder, name), document), form)
    except (OSError, ValueError) as error:
        raise UnreadableRun(os.fspath(run_folder), name, _words(error)) from None


def _load(run_folder: str | os.PathLike[str], name: str) -> Any:
    return read_json(os.path.join(run_folder, name), follow=False)


def _words(error: OSError | ValueError) -> str:
    """Return what is wrong with a file."""
    if type(error) is FileNotFoundError:
        return "it is missing"
    if isinstance(error, OSError):
        return f"it cannot be opened: {error.strerror or error}"
    if isinstance(error, UnicodeDecodeError):
        return "it is not UTF-8 text"
    if isinstance(error, json.JSONDecodeError):
        return f"it is not a whole JSON document: {error}" if error.doc.strip() else "it is empty"
    if isinstance(error, FormError):
        return f"{error}: it is damaged, or not a file of hpctf's"
    return f"it cannot be read: {error}"


def _contradiction(plan: dict[str, Any]) -> str:
    """Return what is wrong with a plan whose types are right; empty if nothing is."""
    roles, components = plan["roles"], plan["components"]
    ranks = sum(role["count"] for role in roles)
    if min((role["count"] for role in roles), default=0) < 1 or ranks > MOST_RANKS:
        return f"its roles have {ranks} ranks, but must have from 1 to {MOST_RANKS}"
    if not all(role["name"].isalpha() for role in roles):
        return "a role's name is not of letters alone"
    if not all(0 <= role["component"] < len(components) for role in roles):
        return "a role's component is not among its components"
    if not all(0 < one["nodes"] <= MOST_RANKS and one["tasks"] > 0 for one in components):
        return "a component has no nodes or tasks, or too many"
    if plan["scheduler"] not in ("slurm", "local"):
        return f"its scheduler is {shown(plan['scheduler'], 40)}, but must be slurm or local"
    if not plan["entry"]["command"]:
        return "its entry has no command"
    if not re.fullmatch("0?[0-7]{1,3}", plan["umask"]):
        return f"its umask is {plan['umask']!r}, but must be octal, such as '0077'"
    return ""
