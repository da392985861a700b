"""What a report says about one run, gathered through `Run`; nothing here knows of HTML."""

from __future__ import annotations

import contextlib
import os
import shlex
import time
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctf.client.hpctf.run_metrics import first_series
from hpctf.common.secrets import hidden_in_shell, hide, secrets_of_run, without_secrets
from hpctf.common.units import memory_size
from hpctf.report.logged_values import logged_of, shown
from hpctf.report.settings import settings_of
from hpctf.report.timeline import timeline_of
from hpctf.run_folder.ownership import open_of_run
from hpctf.run_folder.rank_states import ranks_of
from hpctf.runs.kept_files import path_of
from hpctf.tracking.charts import Chart, charts_of
from hpctf.tracking.curves import Line, Panel, is_curve, line_of, make_line, panels_of, points_each
from hpctf.tracking.efficiency import Efficiency, efficiency

if TYPE_CHECKING:
    from hpctf.child_run import ChildRun
    from hpctf.client.hpctf.series import Series
    from hpctf.run import Run
    from hpctf.runs.status.state import RunState

EVENT_FILES = "event files"
"""Whose the curves are that TensorBoard's event files hold, in place of a rank."""

Plain = dict[str, Any]

_GB = 1 << 30
_LONGEST_SCRIPT = 1_000_000


def gather(run: Run, status: RunState, node_energy: int | None, lines: int) -> dict[str, Any]:
    """Return everything that a report says about a run as plain data, without what is secret.

    ``why`` is what `Run.why` tells of one that did not complete; ``curves`` have a line for each
    rank, ``of_children`` one for each child run; ``system`` is what the ranks used while they ran,
    ``used`` that in words, node by node, against what was requested. ``command`` is what was typed
    to submit it. Times are seconds since the epoch, but within lines; ``queued`` are the seconds
    until the first rank's start, ``duration`` those from then to the end, or until now.

    Parameters
    ----------
    status
        What `Run.look` returns.
    node_energy
        What `hpctf.runs.energy` knows of it.
    lines
        How many lines the whole page has, if this run is one of several: they share the room, and
        each has the first rank's lines alone.
    """
    record = run.folder.read_record()
    content = _gathered(run, record, status, node_energy, lines)
    found: dict[str, Any] = hide(content, secrets_of_run(run.plan["entry"], record))
    return found


def _gathered(
    run: Run, record: dict[str, Any], status: RunState, node_energy: int | None, lines: int
) -> dict[str, Any]:
    now = time.time()
    submitted = record.get("submitted")
    ends = [rank.ended for rank in status.ranks if rank.ended]
    ended = max(ends) if ends and status.final else None
    timeline = timeline_of(run, now, status.final)
    first = timeline.first if timeline else None
    begin = first or submitted or now
    ranks = [f"{role}-{index}" for role, index in ranks_of(run.plan)]
    journals = run.journals()
    own = {} if lines else {rank: journals[rank].series for rank in ranks if rank in journals}
    series = {**run.event_series(), **first_series(journals.values())}
    charts = charts_of(series)
    drawn = charts.charts
    if lines:  # of one run of several each metric has its own: they are compared by their names
        drawn = tuple(Chart(name, (one,)) for name, one in series.items() if is_curve(one))
    children = [(child, child.series()) for child in run.get_children()]
    used = efficiency(run.folder.path, run.plan, node_energy)
    return {
        "id": run.id,
        "experiment": run.experiment,
        "state": status.state,
        "final": status.final,
        "reason": status.reason,
        "backend": run.plan["backend"],
        "user": str(record.get("user") or ""),
        "host": str(record.get("host") or ""),
        "folder": str(run.folder.path),
        "job_id": run.job_id,
        "submitted": submitted,
        "started": first,
        "ended": ended,
        "made": now,
        "queued": None if first is None or submitted is None else first - submitted,
        "duration": None if first is None else (now if ended is None else ended) - first,
        "ranks": len(ranks),
        "tags": _shown(run.get_tags()),
        "properties": _shown(run.get_properties()),
        "why": [] if status.state == "Completed" else str(run.why()).splitlines(),
        "last": _last(series),
        "curves": _curves(own, series, drawn, begin, lines),
        "logged": asdict(logged_of(run.folder.path, series, charts.constants)),
        "children": [_child(*pair) for pair in children],
        "of_children": _curves_of_children(children, lines),
        "timeline": asdict(timeline) if timeline else None,
        "system": _system(run, begin),
        "used": _used(used),
        "used_in_short": "" if used is None else str(used),
        "settings": asdict(settings_of(run, record)),
        "files": _files(run),
        "source": record.get("source_directory"),
        "command": command_of(record),
        "script": _script(run.folder.script),
    }


def command_of(record: dict[str, Any]) -> str:
    """Return what was typed to submit a run, ready for a shell; empty for a run of a program's."""
    typed = record.get("command")
    words = [str(word) for word in typed] if isinstance(typed, list) else []
    program = Path(words[0]) if len(words) > 1 else Path()
    if "hpctf" not in (program.name, program.parent.name if program.stem == "__main__" else ""):
        return ""
    return shlex.join(["hpctf", *without_secrets(words[1:])])


def _curves(
    own: dict[str, dict[str, Series]],
    series: dict[str, Series],
    charts: Sequence[Chart],
    begin: float,
    lines: int,
) -> list[Plain]:
    """Return a panel per chart, with a line per metric and rank; each metric's first is shown."""
    known = {name for mine in own.values() for name in mine}
    rest = {name: one for name, one in series.items() if name not in known}
    named = [
        (chart, rank, mine[one.name])
        for chart in charts
        for one in chart.series
        for rank, mine in [*own.items(), (EVENT_FILES, rest)]
        if one.name in mine and is_curve(mine[one.name])
    ]
    most = points_each(lines or len(named))
    first = {one.name: rank for _, rank, one in reversed(named)}

    panels: list[tuple[str, Line]] = []
    for chart, rank, one in named:
        label = f"{one.name}, {rank}" if len(chart.series) > 1 else rank
        shown = rank == first[one.name]
        panels.append((chart.title, line_of(label, one, begin, most, shown)))
    return _plain(panels_of(panels))


def _curves_of_children(
    children: list[tuple[ChildRun, dict[str, Series]]], lines: int
) -> list[Plain]:
    named = [
        (name, child, one)
        for child, series in children
        for name, one in series.items()
        if is_curve(one)
    ]
    most = points_each(lines or len(named))
    return _plain(
        panels_of(
            (name, line_of(child.name, one, child.created, most)) for name, child, one in named
        )
    )


def _plain(panels: Iterable[Panel]) -> list[Plain]:
    return [asdict(panel) for panel in panels]


def _child(child: ChildRun, series: dict[str, Series]) -> Plain:
    """Return what is told of a child run; its curves are lines of the report's own panels."""
    about = {"id": child.id, "name": child.name, "state": child.status}
    return {**about, "tags": _shown(child.get_tags()), "last": _last(series)}


def _shown(tags: dict[str, Any]) -> dict[str, str | None]:
    return {key: None if value is None else shown(value) for key, value in tags.items()}


def _last(series: dict[str, Series]) -> dict[str, str]:
    return {name: shown(one.values[-1]) for name, one in series.items() if one.kind == "value"}


_UNITS = {"cpu": ("CPU", "cores", 1.0), "memory": ("Memory", "GB", _GB)}


def _system(run: Run, begin: float) -> list[Plain]:
    found: dict[str, Panel] = {}
    sampled = run.get_system_metrics()
    most = points_each(4 * len(sampled))
    for rank, columns in sampled.items():
        times = [at - begin for at in columns["time"]]
        for key, (title, unit, scale) in _columns_shown(columns).items():
            there = [n for n, value in enumerate(columns[key]) if value is not None]
            values = [columns[key][n] / scale for n in there]
            at = [times[n] for n in there]
            if len(values) > 1:
                line = make_line(rank, [round(one, 3) for one in at], at, values, most)
                found.setdefault(key, Panel(title, unit=unit)).lines.append(line)
    return _plain(found.values())


def _columns_shown(columns: dict[str, list[Any]]) -> dict[str, tuple[str, str, float]]:
    found = {key: known for key, known in _UNITS.items() if key in columns}
    for key in columns:
        gpu, _, what = key.partition("_")
        if gpu.startswith("gpu") and what == "use":
            found[key] = (f"GPU {gpu[3:]}, use", "%", 1.0)
        elif gpu.startswith("gpu") and what == "memory":
            found[key] = (f"GPU {gpu[3:]}, memory", "GB", _GB)
    return found


def _used(used: Efficiency | None) -> list[list[str]]:
    """Return a row per node: its name, and what it used and requested of cores, memory, GPUs."""
    rows = []
    for node in used.nodes if used else ():
        busy = "" if node.gpu_use is None else f"busy {node.gpu_use:.0f} % of the time"
        gpus = ", ".join(filter(None, [busy, node.energy]))
        rows.append(
            [
                node.host,
                _cell(node.cpu_asked),
                _cell(node.cpu_mean, "{:.1f}"),
                _cell(node.cpu_peak, "{:.1f}"),
                "" if node.memory_asked is None else memory_size(node.memory_asked),
                "" if node.memory_peak is None else memory_size(node.memory_peak),
                str(node.gpus_asked or ""),
                gpus,
            ]
        )
    return rows


def _cell(value: float | None, form: str = "{}") -> str:
    return "" if value is None else form.format(value)


def _files(run: Run) -> list[Plain]:
    found = []
    for name in run.get_file_names():
        with contextlib.suppress(OSError, ValueError):  # gone meanwhile
            with open_of_run(path_of(run.folder, name)) as stream:
                size = os.fstat(stream.fileno()).st_size
            found.append({"name": os.fsencode(name).decode("utf-8", "replace"), "size": size})
    return found


def _script(path: Path) -> str:
    try:
        with open_of_run(path) as stream:
            return hidden_in_shell(stream.read(_LONGEST_SCRIPT).decode("utf-8", "replace"))
    except OSError:
        return ""
