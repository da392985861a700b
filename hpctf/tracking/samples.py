"""What the ranks' wrappers have sampled (`hpctf.node.system`), read back."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, TypedDict

from hpctf.client.hpctf.journal_reader import at_once, records_of, whole_lines
from hpctf.client.hpctf.run_metrics import JOURNALS
from hpctf.client.hpctf.within import open_file
from hpctf.common.forms import fitting

SYSTEM = "system"
"""Folder below the journals, and the name of the rows."""

_MOST = 2.0**63
"""Bound of what is measured, in bytes and cores."""

_NUMBERS = (int, float)
_GPU = re.compile(r"^gpu(\d+)_")


class Sample(NamedTuple):
    """What one rank used at one time.

    ``row`` has ``cpu`` (cores in use, on average of the ``seconds`` before ``time``), ``memory``
    and ``memory_peak`` (bytes), ``memory_count`` (how that was counted: ``cgroup``, ``pss`` or
    ``rss``), ``processes``, and of each GPU ``gpu0_use`` (percent), ``gpu0_memory`` and
    ``gpu0_memory_total`` (bytes), and ``gpu0_energy`` (joules since the rank's start); what could
    not be asked is missing. ``gpus`` are the GPUs' names and ids, ``start`` counts the rank's
    starts.
    """

    time: float
    seconds: float
    host: str
    row: dict[str, Any]
    gpus: tuple[str, ...] = ()
    start: int = 0


class Opened(TypedDict, total=False):
    """Who began to write samples."""

    host: str
    gpus: list[str]
    every_s: float


class SampleRecord(TypedDict, total=False):
    """A line of a file of samples."""

    time: float
    opened: Opened
    row: dict[str, Any]


def _numbers(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row without values that are neither numbers nor the word of how memory counts."""
    return {
        name: value
        for name, value in row.items()
        if (value.__class__ in _NUMBERS and -_MOST < value < _MOST)
        or (name == "memory_count" and isinstance(value, str))
    }


class Samples:
    """The samples of one rank, in order, as its records are taken one by one."""

    def __init__(self) -> None:
        self.all: list[Sample] = []
        self.every_s = 0.0
        self._host = ""
        self._gpus: tuple[str, ...] = ()
        self._starts = 0
        self._at = 0.0

    def take(self, record: dict[str, Any]) -> None:
        """Add a record of the rank's file; what is none is passed over."""
        if not isinstance(record, dict):
            return
        record = fitting(record, SampleRecord)
        at, opened, row = record.get("time"), record.get("opened"), record.get("row")
        if at is None:
            return
        if opened is not None:
            self._starts += 1
            self._host = opened.get("host", "")
            self._gpus = tuple(opened.get("gpus", ()))
            self.every_s = opened.get("every_s", 0.0)
        elif row is not None:
            seconds = max(0.0, at - self._at)
            told = (self._host, _numbers(row), self._gpus, self._starts)
            self.all.append(Sample(at, seconds, *told))
        else:
            return
        self._at = at

    @property
    def last(self) -> Sample | None:
        """The last one that tells what is in use, of processes that were still there."""
        return next((one for one in reversed(self.all) if "memory" in one.row), None)


def read_samples(folder: Path, ranks: Iterable[str]) -> dict[str, Samples]:
    """Return the samples of those of a run's ranks that have any."""
    found = {}
    for rank in ranks:
        samples = Samples()
        with contextlib.suppress(FileNotFoundError), open_file(sample_file(folder, rank)) as stream:
            for text in whole_lines(stream):
                for record in at_once(text) or records_of(text.split(b"\n")):
                    samples.take(record)
        if samples.all:
            found[rank] = samples
    return found


def sample_file(folder: Path, rank: str) -> Path:
    """Return where a rank's samples lie in a run's folder."""
    return folder / JOURNALS / SYSTEM / f"{rank}.jsonl"


def gpu_numbers(row: dict[str, Any]) -> list[int]:
    """Return the numbers of the GPUs that a row tells of, from 0."""
    return _gpu_numbers(tuple(row))


@lru_cache
def _gpu_numbers(names: tuple[str, ...]) -> list[int]:
    return sorted({int(match.group(1)) for match in map(_GPU.match, names) if match})


def columns(samples: Samples) -> dict[str, list[Any]]:
    """Return samples as columns, with None where one lacks a value."""
    names = dict.fromkeys(name for one in samples.all for name in one.row)
    return {
        "time": [one.time for one in samples.all],
        "seconds": [round(one.seconds, 3) for one in samples.all],
        "host": [one.host for one in samples.all],
        **{name: [one.row.get(name) for one in samples.all] for name in names},
    }
