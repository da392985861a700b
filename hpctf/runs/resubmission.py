"""Submitting a run again: its code as it was, its environment, and what was asked then."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctf.common.files import read_json
from hpctf.common.notes import notify
from hpctf.common.secrets import HIDDEN
from hpctf.errors import RunFolderError, UnreadableRun, UsageError
from hpctf.estimator.parameters import SOFTWARE
from hpctf.estimator.request import as_json, changed, estimator_from
from hpctf.run_folder.layout import RunFolder, check_root
from hpctf.run_folder.ownership import owner_of, require_mine
from hpctf.run_folder.trusted_results import trusted_results
from hpctf.runs.provenance import DIFF, Origin, parameters_of, snapshot_contents
from hpctf.runs.site_choice import ChosenSite
from hpctf.runs.status.query import queued_again
from hpctf.runs.submitting import Labels, Submitter, submitter
from hpctf.site.settings import check_settings

if TYPE_CHECKING:
    from hpctf.environment.spec import EnvironmentSpec
    from hpctf.estimator.tensorflow import TensorFlow
    from hpctf.planning.planner import Planned
    from hpctf.site.model import Site
    from hpctf.site.settings import Settings
    from hpctf.submission.payload import KeptPayload

_PAYLOAD = "payload.pkl"


@dataclass(frozen=True)
class Resubmission:
    """A run that is ready to be submitted again, as a new one; `notes` say what is not as it
    was."""

    submitter: Submitter
    estimator: TensorFlow
    origin: Origin
    name: str
    notes: tuple[str, ...] = ()

    def plan(self) -> Planned:
        """Return what submitting it would do; nothing is written."""
        return self.submitter.plan(self.estimator, self.name, origin=self.origin)

    def submit(self, on_note: Callable[[str], None] | None = None) -> RunFolder:
        """Submit it, and return the new run's folder (`hpctf.Experiment.submit`)."""
        for note in self.notes:
            (on_note or notify)(note)
        request = self.origin.request
        labels = Labels(request["tags"], request["properties"])
        return self.submitter.submit([self.estimator], on_note, self.name, labels, self.origin)[0]


def resubmission(
    run: RunFolder,
    changes: Mapping[str, Any] | None = None,
    *,
    site: str | os.PathLike[str] | None = None,
    settings: Settings | None = None,
    experiment: str | None = None,
    name: str | None = None,
    keep: bool = True,
    trust: bool = False,
) -> Resubmission:
    """Return what submits a run again: the same code, environment and request.

    The site is the one of that name as it is today.

    Parameters
    ----------
    changes
        What is requested differently, by the estimator's names (`hpctf.estimator.request.changed`).
    site, settings
        Another site, and keys to set besides those that were set then.
    experiment, name
        Another experiment, and what the new run's id begins with.
    keep
        Whether the checked site may be kept.
    trust
        Whether the run's code, environment and site may be those of a run that the user has not
        submitted: all of them run as the user.

    Raises
    ------
    UsageError
        The run's snapshot is gone, or it cannot be changed so; or its submission was cut short, and
        it has a job after all, or may have.
    RunFolderError
        The run, or its function's pickle, is not to be trusted.
    """
    if run.is_study:
        raise UsageError(
            f"Run {run.id} is a study, which cannot be submitted again as a run.",
            f"To continue it: hpctf tune resume {run.id}. A trial can be submitted again.",
        )
    if run.is_scoring:
        raise UsageError(
            f"Run {run.id} scored rows, which cannot be submitted again as a run.",
            f"To score what is missing: hpctf score --resume {run.id}",
        )
    if not trust:
        require_mine(run.path, "its code, its environment and its site's shell lines")
    record = run.read_record()
    _refuse_unless_lost(run, record)
    # What it followed has ended, or was never to be waited for twice.
    request = changed({**_request(run, record), "after": []}, changes or {})
    _refuse_without_secrets(run, request)
    chosen = _site(run, record, request, site, settings, keep)
    found = chosen.load()
    to = submitter(experiment or run.experiment, found, _root(run, found))
    notes: list[str] = []
    spec = environment_of_run(run, found, notes.append)
    estimator = _estimator(run, request, spec, notes.append, trust)
    diff = b""
    with contextlib.suppress(OSError):
        diff = (run.path / DIFF).read_bytes()
    origin = Origin(
        request=as_json({**request, **chosen.as_json()}),
        parameters=record["parameters"] if estimator.function else parameters_of(estimator),
        source_directory=record["source_directory"],
        git=record.get("git"),
        diff=diff,
        resubmitted_from=run.id,
        names=_names(run, notes.append),
        spec=spec,
    )
    return Resubmission(to, estimator, origin, name or run.id.rsplit("_", 2)[0], tuple(notes))


def _request(run: RunFolder, record: dict[str, Any]) -> dict[str, Any]:
    request: dict[str, Any] | None = record["request"]
    if request is None:
        raise UnreadableRun(str(run.path), "run.json", "it holds no request: it is damaged")
    if not run.snapshot.is_dir():
        raise UsageError(
            f"Run {run.id} cannot be submitted again: its snapshot {run.snapshot} is gone, "
            "or you may not read it.",
            "hpctf submit takes the source folder as it is today.",
        )
    return request


def _refuse_unless_lost(run: RunFolder, record: dict[str, Any]) -> None:
    """Refuse to submit one's run a second time whose submission was cut short, unless the scheduler
    is sure not to have its job."""
    if record.get("job_id") is not None or record.get("uid", os.geteuid()) != os.geteuid():
        return
    reason = queued_again([run]).get(run.id)
    if reason:
        raise UsageError(
            f"Cannot submit run {run.id} again: {reason}.",
            f"Nothing was submitted. See what became of it first: hpctf status {run.id}",
        )


def _refuse_without_secrets(run: RunFolder, request: dict[str, Any]) -> None:
    """Refuse a request whose secrets stayed with the run's owner (docs/run-folder.md)."""
    variables, parameters = request.get("environment_variables"), request.get("script_params")
    named = {**(variables or {}), **(parameters or {})}
    missing = [name for name, value in named.items() if HIDDEN in str(value)]
    missing += [word for word in request.get("arguments") or () if HIDDEN in str(word)]
    if missing:
        names = ", ".join(map(str, missing))
        raise UsageError(
            f"Cannot submit run {run.id} again: {names} is confidential, and only the owner of the "
            "run's folder may read it.",
            "Pass it anew: --env NAME=VALUE, or all of the script's arguments after --.",
        )


def _site(
    run: RunFolder,
    record: dict[str, Any],
    request: dict[str, Any],
    site: str | os.PathLike[str] | None,
    settings: Settings | None,
    keep: bool,
) -> ChosenSite:
    """Return the site of then with its settings, or another one with those given alone."""
    own = run.snapshot / "hpctf.yaml"
    source = record["source_directory"]
    project = run.snapshot if own.is_file() or source is None else Path(source)
    given = _words(check_settings(settings))
    if site is not None:
        return ChosenSite(site, given, project, keep)
    own_settings = [*(request.get("settings") or []), *given]
    return ChosenSite(request.get("site"), own_settings, project, keep)


def _words(settings: Settings | None) -> list[str]:
    """Return settings as the command line has them; later ones count more."""
    if isinstance(settings, Mapping):
        return [
            f"{key}={value if isinstance(value, str) else json.dumps(value)}"
            for key, value in settings.items()
        ]
    return list(settings or [])


def _root(run: RunFolder, site: Site) -> Path | None:
    """Return the old run's root if it is none of the usual ones, but may be written."""
    if os.environ.get("HPCTF_RUNS_ROOT") or "runs_root" in site.locked:
        return None
    usual = check_root(site.runs_root) == run.root or not os.access(run.root, os.W_OK)
    return None if usual or owner_of(run.path) else run.root


def environment_of_run(
    folder: RunFolder, site: Site, tell: Callable[[str], None]
) -> EnvironmentSpec | None:
    """Return the environment that hpctf built for a run: the same one while it is there as it was,
    else one of the same exact versions; None if it built none."""
    if not (folder.path / "environment.json").is_file():
        return None
    from hpctf.environment.lock import environment_of, locked_spec, read_lock
    from hpctf.environment.spec import spec_from
    from hpctf.environment.store import LOCK_FILE, Store

    try:
        spec = spec_from(read_json(folder.path / "environment.json"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UnreadableRun(
            str(folder.path), "environment.json", "it is damaged, or not a file of hpctf's"
        ) from None
    if not (folder.path / LOCK_FILE).is_file():  # its build has not come to an end
        return spec
    lock = read_lock(folder.path / LOCK_FILE)
    if lock.key == spec.key and environment_of(lock, Store(site)) is not None:
        return spec
    locked = locked_spec(lock, site, tell)
    tell(f"environment {spec.key} is not there as it was: {locked.key} has the same versions")
    return locked


def _estimator(
    run: RunFolder,
    request: dict[str, Any],
    spec: EnvironmentSpec | None,
    tell: Callable[[str], None],
    trust: bool,
) -> TensorFlow:
    """Return the estimator of a request whose source folder is the run's snapshot."""
    asked = dict(request)
    if spec is not None:  # packages and files of then are in it
        asked = {name: value for name, value in asked.items() if name not in SOFTWARE}
        asked["modules"] = request.get("modules") or []
    elif not any(request.get(name) for name in SOFTWARE):
        python = run.plan["entry"]["python"]
        if python != sys.executable and os.path.isabs(python):
            asked["python"] = python if os.access(python, os.X_OK) else None
        if asked.get("python") is None and python != sys.executable:
            tell(f"the run's Python {python} no longer exists; this run gets {sys.executable} now")
    function = request.get("function")
    if function is None:
        return estimator_from(asked, run.snapshot)
    has_source = run.read_record()["source_directory"] is not None
    kept = _kept_payload(run, function["name"], trust)
    return estimator_from(asked, run.snapshot if has_source else None, kept)


def _kept_payload(run: RunFolder, name: str, trust: bool) -> KeptPayload:
    from hpctf.submission.payload import KeptPayload

    version = run.plan["entry"]["command"][3]
    own = f"{sys.version_info[0]}.{sys.version_info[1]}"
    if version != own:
        raise UsageError(
            f"The function of run {run.id} is pickled by Python {version}, but hpctf runs with "
            f"Python {own}: functions cannot go from one to the other.",
            f"Run hpctf with Python {version}, or submit the function anew.",
        )
    with trusted_results(run.path, _PAYLOAD, trust) as submitit:
        try:
            return KeptPayload((submitit / _PAYLOAD).read_bytes(), name)
        except OSError as error:
            raise RunFolderError(
                f"The function of run {run.id} cannot be read: {error.strerror}.",
                "Submit it anew: Experiment.submit(TensorFlow(function=...)).",
            ) from None


def _names(run: RunFolder, tell: Callable[[str], None]) -> frozenset[str] | None:
    """Return what was in the snapshot before the training wrote there; tell what has changed."""
    if run.read_record()["source_directory"] is None:
        return None
    known = snapshot_contents(run)
    other = []
    for name, before in known.items():
        try:
            status = (run.snapshot / name).lstat()
        except OSError:
            other.append(name)
            continue
        if before and [status.st_size, status.st_mtime_ns] != before:
            other.append(name)
    if other:
        more = f" and {len(other) - 3} more" if len(other) > 3 else ""
        tell(f"run {run.id} or somebody has changed its snapshot: {', '.join(other[:3])}{more}")
    return frozenset(known)
