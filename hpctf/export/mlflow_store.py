"""Runs in an MLflow store, a file or a server's: each once, however often it is exported.

An MLflow run is found again by its tag ``hpctf.run_id``. Points that it has are not sent again, so
an export that was cut short, or one of a run that went on since, is completed by the next.
"""

from __future__ import annotations

import json
import math
import os
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctf.client.hpctf.within import top_of
from hpctf.common.progress import followed
from hpctf.common.secrets import without_credentials
from hpctf.errors import ExportError, UsageError
from hpctf.export.mlflow_names import allowed_names
from hpctf.export.runs import Exported, exported
from hpctf.run_folder.ownership import is_mine
from hpctf.runs.kept_files import copy_of_run
from hpctf.runs.status.query import statuses

if TYPE_CHECKING:
    from hpctf.run import Run

DEFAULT_URI = "sqlite:///mlflow.db"
"""MLflow's own default since 3.7; its folder store (``./mlruns``) is in maintenance mode only."""

RUN_ID = "hpctf.run_id"
_EXPORTED = "hpctf.exported"
"""When the last whole export began, in seconds since the epoch."""

_PATIENCE_S = 10.0
_MOST_METRICS, _MOST_PARAMS = 1000, 100
"""Of one call (mlflow/utils/validation.py)."""
_LONGEST_PARAM, _LONGEST_TAG = 500, 5000
"""Characters of a value that every release of MLflow since 2.0 takes."""
_LARGEST = 1.7976931348623157e308
"""What MLflow's databases keep for infinity."""

_STATUS = {
    "Completed": "FINISHED",
    "Failed": "FAILED",
    "Canceled": "KILLED",
    "Running": "RUNNING",
    "Finalizing": "RUNNING",
}


@dataclass
class Done:
    """What an export did: runs that are new in MLflow, runs that were there, points sent, files.

    ``left_out`` are files that are too large, ``refused`` what MLflow would not take, and why.
    """

    uri: str
    new: int = 0
    known: int = 0
    points: int = 0
    files: int = 0
    left_out: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    runs: dict[str, str] = field(default_factory=dict)


def to_mlflow(
    runs: Sequence[Run],
    uri: str | None = None,
    *,
    files: bool = True,
    largest: int | None = None,
    on_run: Callable[[str], None] | None = None,
) -> Done:
    """Write runs, and their child runs, to an MLflow store.

    Parameters
    ----------
    uri
        A server (``http://...``) or a database (``sqlite:///mlflow.db``); by default
        MLFLOW_TRACKING_URI, else `DEFAULT_URI` in the current folder.
    files
        Whether outputs and uploaded files go there, too; images that were logged always do.
    largest
        Bytes of a file from which on it is left out.
    on_run
        Called with each run's id before it is sent.

    Returns
    -------
    Done
        With MLflow's ids by ours in ``runs``.

    Raises
    ------
    UsageError
        MLflow is not installed.
    ExportError
        The server cannot be reached, or MLflow refused.
    """
    target = uri or os.environ.get("MLFLOW_TRACKING_URI") or DEFAULT_URI
    client = _client(target)
    from mlflow.exceptions import MlflowException

    done = Done(without_credentials(target))
    found = statuses(run.folder for run in runs)
    try:
        for run in followed(runs, "Exporting runs"):
            if on_run:
                on_run(run.id)
            ids: dict[str, str] = {}
            for one in exported(run, found[run.id]):
                writer = _Writer(client, target, one, done)
                ids[one.id] = writer.write(ids.get(one.parent or ""), files, largest)
            done.runs.update(ids)
    except (MlflowException, OSError) as error:
        words = str(error).splitlines() or [type(error).__name__]
        raise ExportError(
            f"MLflow at {done.uri} refused run {run.id}: {words[0]}",
            "What it has already is found again: export once more when that is put right.",
        ) from None
    return done


def look_at(uri: str) -> str:
    """Return how to look at what lies there."""
    if uri.startswith(("http://", "https://")):
        return f"look at it: {uri}"
    return f"look at it: mlflow ui --backend-store-uri {uri}"


def _reach(uri: str) -> None:
    """Ask a server for a sign of life: any answer is one. MLflow would try again for minutes."""
    if not uri.startswith(("http://", "https://")):
        return
    server = without_credentials(uri)
    try:
        urllib.request.urlopen(f"{server.rstrip('/')}/health", timeout=_PATIENCE_S)
    except urllib.error.HTTPError:
        return
    except (OSError, ValueError) as error:
        raise ExportError(
            f"The MLflow server at {server} cannot be reached: {getattr(error, 'reason', error)}.",
            "Start it (mlflow server), name another one (--to), or export to a file: "
            f"--to {DEFAULT_URI}",
        ) from None


def _client(uri: str) -> Any:
    _reach(uri)
    os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")  # else minutes of silence
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # it is the answer's
    try:
        from mlflow.tracking import MlflowClient

        return MlflowClient(tracking_uri=uri)
    except ImportError as error:
        raise UsageError(
            f"Exporting to MLflow needs MLflow, which is not installed here ({error}).",
            "pip install 'hpctf[mlflow]' (for a server alone mlflow-skinny does, too)",
        ) from None


@dataclass
class _Writer:
    _client: Any
    _uri: str
    _one: Exported
    _done: Done
    _begun: float = field(default_factory=time.time)

    def write(self, parent: str | None, files: bool, largest: int | None) -> str:
        """Write all of it, and return MLflow's id of the run."""
        experiment = self._experiment()
        found = self._client.search_runs([experiment], f"tags.`{RUN_ID}` = '{self._one.id}'")
        there = found[0] if found else self._create(parent, experiment)
        self._done.known += bool(found)
        self._done.new += not found
        run_id = str(there.info.run_id)
        self._params(run_id, there)
        self._metrics(run_id, there)
        tables = self._tables(run_id)
        wanted = {**self._one.images, **(self._one.files if files else {})}
        self._files(run_id, wanted, float(there.data.tags.get(_EXPORTED, 0)), largest)
        self._end(run_id, tables)
        return run_id

    def _experiment(self) -> str:
        name = self._one.experiment
        found = self._client.get_experiment_by_name(name)
        if found is None:
            return str(self._client.create_experiment(name, _artifacts_of(self._uri, name)))
        if found.lifecycle_stage == "deleted":
            raise ExportError(
                f"MLflow's experiment {name!r} is deleted, which keeps its name taken.",
                f"mlflow experiments restore --experiment-id {found.experiment_id}, or 'mlflow gc'",
            )
        return str(found.experiment_id)

    def _create(self, parent: str | None, experiment: str) -> Any:
        one = self._one
        tags = {
            RUN_ID: one.id,
            "mlflow.user": one.user,
            "mlflow.source.name": one.script,
            "mlflow.source.type": "JOB",
            "mlflow.source.git.commit": one.git_commit or "",
            "mlflow.parentRunId": parent or "",
        }
        return self._client.create_run(
            experiment,
            start_time=_ms(one.started),
            tags={key: _text(value) for key, value in tags.items() if value},
            run_name=_text(one.name),
        )

    def _params(self, run_id: str, there: Any) -> None:
        """Log those that are not there yet: MLflow never changes one."""
        from mlflow.entities import Param

        names = allowed_names(self._one.params)
        new = [
            Param(names[name], _text(value)[:_LONGEST_PARAM])
            for name, value in self._one.params.items()
            if names[name] not in there.data.params
        ]
        self._send(run_id, "params", new, _MOST_PARAMS)

    def _metrics(self, run_id: str, there: Any) -> None:
        from mlflow.entities import Metric

        metrics = {**self._one.metrics, **self._one.system}
        names = allowed_names(metrics)
        new = []
        for name, points in metrics.items():
            key = names[name]
            seen = key in there.data.metrics
            history = self._client.get_metric_history(run_id, key) if seen else ()
            known = {_identity(one.value, one.timestamp, one.step) for one in history}
            new += [
                Metric(key, point.value, _ms(point.time), point.step)
                for point in points
                if _identity(point.value, _ms(point.time), point.step) not in known
            ]
        self._done.points += self._send(run_id, "metrics", new, _MOST_METRICS)

    def _send(self, run_id: str, kind: str, items: list[Any], most: int) -> int:
        """Send params, metrics or tags; return how many MLflow has taken. One that it refuses, and
        a whole batch for it, is looked for by halves and left out."""
        from mlflow.exceptions import MlflowException

        sent = 0
        waiting = [items[start : start + most] for start in range(0, len(items), most)][::-1]
        while waiting:
            some = waiting.pop()
            try:
                self._client.log_batch(run_id, **{kind: some})
                sent += len(some)
            except (MlflowException, ValueError, OverflowError) as error:
                if len(some) == 1:
                    step = f" at step {some[0].step}" if kind == "metrics" else ""
                    self._refuse(run_id, f"{kind[:-1]} {some[0].key!r}{step}", error)
                else:
                    half = len(some) // 2
                    waiting += [some[half:], some[:half]]
        return sent

    def _attempt(self, run_id: str, what: str, send: Callable[..., Any], *words: Any) -> bool:
        from mlflow.exceptions import MlflowException

        try:
            send(run_id, *words)
        except (MlflowException, ValueError) as error:
            self._refuse(run_id, what, error)
            return False
        return True

    def _refuse(self, run_id: str, what: str, error: Exception) -> None:
        self._client.get_run(run_id)  # raises where MLflow has gone
        words = (str(error).splitlines() or [type(error).__name__])[0]
        self._done.refused.append(f"{self._one.id}: {what}: {words}")

    def _tables(self, run_id: str) -> list[str]:
        names = allowed_names(self._one.tables)
        paths = []
        for name, table in self._one.tables.items():
            path = f"tables/{names[name]}.json".replace(":", "_")
            text = json.dumps(table)
            if self._attempt(run_id, f"table {name!r}", self._client.log_text, text, path):
                paths.append(path)
        return paths

    def _files(
        self, run_id: str, files: dict[str, Path], exported: float, largest: int | None
    ) -> None:
        sizes: dict[str, dict[str, int]] = {}
        what, sent = f"Sending files of {self._one.id}", list(files.items())
        for name, path in followed(sent, what, size=lambda one: one[1].stat().st_size):
            about = path.stat()
            if largest is not None and about.st_size > largest:
                self._done.left_out.append(name)
                continue
            folder = os.path.dirname(name)
            if exported and folder not in sizes:
                listed = self._client.list_artifacts(run_id, folder or None)
                sizes[folder] = {one.path: one.file_size or 0 for one in listed}  # None for 0
            kept = sizes.get(folder, {}).get(name) == about.st_size
            if kept and about.st_mtime < exported:
                continue
            if self._attempt(run_id, f"file {name!r}", self._send_file, path, folder):
                self._done.files += 1

    def _send_file(self, run_id: str, path: Path, folder: str) -> None:
        """Send a file; MLflow follows links, so of somebody else's run it gets a copy."""
        top = top_of(path)
        if top is not None and is_mine(top):
            self._client.log_artifact(run_id, str(path), folder or None)
            return
        with tempfile.TemporaryDirectory(prefix="hpctf-mlflow-") as name:
            copy = copy_of_run(path, Path(name) / path.name)
            self._client.log_artifact(run_id, str(copy), folder or None)

    def _end(self, run_id: str, tables: list[str]) -> None:
        from mlflow.entities import RunTag

        one = self._one
        names = allowed_names(one.tags)
        tags = {names[name]: value for name, value in one.tags.items()}
        tags["hpctf.state"] = one.state
        ours = allowed_names([*one.params, *one.metrics, *one.tags])
        renamed = {new: name for name, new in ours.items() if new != name}
        if renamed:
            tags["hpctf.renamed"] = json.dumps(renamed, ensure_ascii=False)
        if tables:
            text = json.dumps([{"path": path, "type": "table"} for path in tables])
            tags |= {"mlflow.loggedArtifacts": text} if len(text) <= _LONGEST_TAG else {}
        made = [RunTag(key, _text(value)[:_LONGEST_TAG]) for key, value in tags.items()]
        self._send(run_id, "tags", made, _MOST_PARAMS)
        status = _STATUS.get(one.state, "SCHEDULED")
        if one.ended is None:
            self._client.update_run(run_id, status=status)
        else:
            self._client.set_terminated(run_id, status, end_time=_ms(one.ended))
        self._client.set_tag(run_id, _EXPORTED, str(self._begun))


def _artifacts_of(uri: str, experiment: str) -> str | None:
    """Return where artifacts lie: beside a database's file, not in the folder where one stands."""
    if not uri.startswith("sqlite:///"):
        return None
    folder = Path(uri.removeprefix("sqlite:///")).absolute().parent
    return (folder / "mlartifacts" / experiment).as_uri()


def _identity(value: float, at: int, step: int) -> tuple[Any, int, int]:
    """Return what makes two points one; NaN is no number that equals itself."""
    if math.isnan(value):
        return "nan", at, step
    return max(-_LARGEST, min(_LARGEST, value)), at, step


def _text(value: str) -> str:
    """Return text that every database takes: without halves of characters and NUL."""
    return value.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _ms(seconds: float) -> int:
    return round(seconds * 1000)
