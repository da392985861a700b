"""The last metrics and tags of a run that is over, kept in one small file: ``state/last.json``.

Thousands of runs can so be sorted by a metric without looking at each rank's journal and at event
files again. The job writes it as its last act, and who settles the run does once more: what another
node had written may have come late.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from hpctf.client.hpctf.run_metrics import Labels, Last
from hpctf.client.hpctf.values import restored, scalar
from hpctf.common.files import read_json, write_json
from hpctf.run_folder.rank_states import read_job

_FILE = "state/last.json"
MOST = 500
"""Metrics that are kept; the few runs with more are read anew."""


class Kept(NamedTuple):
    """What was the latest when the run was over; tags and properties each with their time."""

    metrics: dict[str, Last]
    tags: Labels
    properties: Labels


def keep(place: Path, kept: Kept, attempt: int | None = None) -> None:
    """Keep what is the latest of a run's folder.

    It holds as long as no other start of the job than `attempt`, which keeps it, is there; without
    one, once the run is settled. Raises OSError where the folder cannot be written.
    """
    if len(kept.metrics) > MOST:
        return
    metrics = {}
    for name, last in kept.metrics.items():
        with contextlib.suppress(TypeError):  # a damaged line: no metric has such a value
            metrics[name] = [scalar(last.value, "a metric"), last.step, last.time]
    content = {**kept._asdict(), "metrics": metrics, "attempt": attempt}
    write_json(place / _FILE, content, shared=True)


def kept_of(place: Path) -> Kept | None:
    """Return what is kept of a run that is over; None if it is not, or nothing is kept."""
    try:
        content = read_json(place / _FILE)
        if not (place / "state" / "final.json").exists():
            job = read_job(place)
            if job.exit_code is None or job.attempt != content.get("attempt"):
                return None
        metrics = {
            name: Last(restored(value), step, at)
            for name, (value, step, at) in content["metrics"].items()
        }
        return Kept(metrics, _pairs(content["tags"]), _pairs(content["properties"]))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _pairs(content: Mapping[str, Any]) -> Labels:
    return {name: (value, at) for name, (value, at) in content.items()}
