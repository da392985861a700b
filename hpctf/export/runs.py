"""What is exported of a run and of each of its child runs; nothing here knows of MLflow."""

from __future__ import annotations

import contextlib
import itertools
import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctf.child_run import ChildRun
from hpctf.client.hpctf.artifacts import place_of
from hpctf.common.secrets import hide, labels, secrets_of_run
from hpctf.report.logged_values import columns_of
from hpctf.report.settings import settings_of
from hpctf.run_folder.ownership import has_file

if TYPE_CHECKING:
    from hpctf.client.hpctf.series import Series
    from hpctf.run import Run
    from hpctf.runs.status.state import RunState
    from hpctf.tracking.metrics import Reading

_MB = 1e6
_SYSTEM = {
    "cpu": ("cpu_cores", 1.0),
    "memory": ("system_memory_usage_megabytes", _MB),
    "use": ("utilization_percentage", 1.0),
    "gpu_memory": ("memory_usage_megabytes", _MB),
}
"""MLflow's names of what is sampled, and in how many of our units theirs are. Cores in use have no
name there."""


@dataclass(frozen=True)
class Point:
    """A number, the step that it was logged for, and when: seconds since the epoch."""

    value: float
    step: int
    time: float


@dataclass(frozen=True)
class Exported:
    """A run, or a child run, without what is secret.

    ``parent`` is the id of the run that made it; ``tables`` hold columns and rows as MLflow reads
    them; ``images`` and ``files`` are paths by name.
    """

    id: str
    name: str
    experiment: str
    parent: str | None
    state: str
    started: float
    ended: float | None
    user: str = ""
    script: str = ""
    git_commit: str | None = None
    params: dict[str, str] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: dict[str, list[Point]] = field(default_factory=dict)
    system: dict[str, list[Point]] = field(default_factory=dict)
    tables: dict[str, dict[str, Any]] = field(default_factory=dict)
    images: dict[str, Path] = field(default_factory=dict)
    files: dict[str, Path] = field(default_factory=dict)


def exported(run: Run, status: RunState) -> list[Exported]:
    """Return what is exported of a run, and behind it of each of its child runs."""
    record = run.folder.read_record()
    entry = run.plan["entry"]
    secrets = secrets_of_run(entry, record)
    return [
        _of_run(run, status, record, secrets),
        *(_of_child(child, run.experiment, record, secrets) for child in run.get_children()),
    ]


def _of_run(run: Run, status: RunState, record: dict[str, Any], secrets: set[str]) -> Exported:
    series = run.series()
    starts = [rank.started for rank in status.ranks if rank.started]
    ends = [rank.ended for rank in status.ranks if rank.ended]
    submitted = float(record.get("submitted") or 0)
    images = _images(run.folder.path, series)
    return Exported(
        id=run.id,
        name=run.id,
        experiment=run.experiment,
        parent=None,
        state=status.state,
        started=min(starts, default=submitted),
        ended=max(ends, default=submitted) if status.final else None,
        user=str(record.get("user") or ""),
        script=_script(run.plan["entry"]),
        git_commit=record.get("git_commit"),
        params=hide(_params(run, record), secrets),
        tags=hide(_labels(run), secrets),
        metrics=hide(_metrics(series), secrets),
        system=_system(run),
        tables=hide(_tables(series), secrets),
        images=images,
        files=_files(run.folder.path, run.get_file_names(), images),
    )


def _of_child(
    child: ChildRun, experiment: str, record: dict[str, Any], secrets: set[str]
) -> Exported:
    series = child.series()
    times = [one.times[-1] for one in series.values()]
    over = child.status in ("Completed", "Failed", "Canceled")
    folder = child.place
    names = [str(path.relative_to(folder)) for path in folder.glob("outputs/**/*")]
    names += [str(path.relative_to(folder / "artifacts")) for path in folder.glob("artifacts/**/*")]
    images = _images(folder, series)
    return Exported(
        id=child.id,
        name=child.name,
        experiment=experiment,
        parent=child.parent,
        state=child.status,
        started=child.created,
        ended=max(times, default=child.created) if over else None,
        user=str(record.get("user") or ""),
        tags=hide(_labels(child), secrets),
        metrics=hide(_metrics(series), secrets),
        tables=hide(_tables(series), secrets),
        images=images,
        files=_files(folder, names, images),
    )


def _script(entry: dict[str, Any]) -> str:
    command = [str(word) for word in entry["command"]]
    if entry["kind"] == "function":
        return "a function"
    behind_python = len(command) > 1 and command[0] == entry["python"]
    return Path(command[int(behind_python)]).name


def _params(run: Run, record: dict[str, Any]) -> dict[str, str]:
    """Return the parameters by name, and below ``hpctf.`` what runs are compared by."""
    plan = run.plan
    software = dict(settings_of(run, record).software)
    known = {
        "backend": plan["backend"],
        "site": plan["site"],
        "target": plan["target"],
        "nodes": sum(component["nodes"] for component in plan["components"]),
        "ranks": sum(role["count"] for role in plan["roles"]),
        "script": _script(plan["entry"]),
        "git_commit": software.pop("git commit", ""),
        "version": software.pop("hpctf", ""),
        **{name.replace(" ", "_").lower(): value for name, value in software.items()},
    }
    found = labels(record.get("parameters"))
    return {**found, **{f"hpctf.{name}": str(value) for name, value in known.items() if value}}


def _labels(reading: Reading) -> dict[str, str]:
    return labels({**reading.get_properties(), **reading.get_tags()})


def _is_number(value: Any) -> bool:
    return isinstance(value, (bool, int, float))


def _metrics(series: dict[str, Series]) -> dict[str, list[Point]]:
    found = {}
    for name, one in series.items():
        if one.kind == "value":
            rows = zip(one.axis(), one.values, one.times, strict=True)
            points = [Point(float(v), step, at) for step, v, at in rows if _is_number(v)]
            if points:
                found[name] = points
    return found


def _tables(series: dict[str, Series]) -> dict[str, dict[str, Any]]:
    """Return what was logged that is no number and no image."""
    found = {}
    for name, one in series.items():
        if one.kind == "image" or (one.kind == "value" and all(map(_is_number, one.values))):
            continue
        if one.kind == "confusion_matrix":
            found[name] = _matrix(one.values[-1])
            continue
        columns = columns_of(one)
        rows = itertools.zip_longest(*columns.values())
        found[name] = {"columns": list(columns), "data": [_json(list(row)) for row in rows]}
    return found


def _matrix(value: dict[str, Any]) -> dict[str, Any]:
    labels = [str(label) for label in value["class_labels"]]
    rows = [[label, *row] for label, row in zip(labels, value["matrix"], strict=True)]
    return {"columns": ["true class", *labels], "data": _json(rows)}


def _json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else repr(value)
    if isinstance(value, list):
        return [_json(one) for one in value]
    return json.dumps(value, default=str) if isinstance(value, dict) else value


def _system(run: Run) -> dict[str, list[Point]]:
    """Return what the ranks used, by MLflow's names; several ranks are told apart by theirs."""
    sampled = run.get_system_metrics()
    found: dict[str, list[Point]] = {}
    for rank, columns in sampled.items():
        room = f"system/{rank}/" if len(sampled) > 1 else "system/"
        for key, values in columns.items():
            name, unit = _system_name(key)
            rows = enumerate(zip(values, columns["time"], strict=True))
            points = [Point(v / unit, n, at) for n, (v, at) in rows if name and v is not None]
            if points:
                found[room + name] = points
    return found


def _system_name(key: str) -> tuple[str, float]:
    gpu, _, what = key.partition("_")
    if gpu.startswith("gpu") and what in ("use", "memory"):
        name, unit = _SYSTEM["use" if what == "use" else "gpu_memory"]
        return f"gpu_{gpu[3:]}_{name}", unit
    return _SYSTEM.get(key, ("", 1.0))


def _images(folder: Path, series: dict[str, Series]) -> dict[str, Path]:
    names = [str(name) for one in series.values() if one.kind == "image" for name in one.values]
    return _there(folder, names)


def _files(folder: Path, names: list[str], images: dict[str, Path]) -> dict[str, Path]:
    """Return outputs and uploads; logs stay, since anything may have been printed."""
    wanted = [name for name in names if name not in images and not name.startswith("logs/")]
    return _there(folder, wanted)


def _there(folder: Path, names: list[str]) -> dict[str, Path]:
    found = {}
    for name in dict.fromkeys(names):
        with contextlib.suppress(ValueError):
            path = Path(place_of(str(folder), name))
            if has_file(path):
                found[name] = path
    return found
