"""When each rank ran, start by start, as bars."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hpctf.run_folder.rank_states import JOB_STATE, RankState, describe_end, ranks_of, state_records

if TYPE_CHECKING:
    from hpctf.run import Run

WIDTH = 1000
"""What the bars' places are counted in: the whole time of the run."""

_NARROWEST = 3


@dataclass(frozen=True)
class Bar:
    """One start of a rank, from ``left`` over ``width`` of `WIDTH`.

    ``end`` is ``completed``, ``failed``, ``asked`` (it was asked to end), ``running``, or
    ``unknown`` for one whose end is not on record.
    """

    attempt: int
    host: str
    started: float
    ended: float | None
    end: str
    words: str
    left: float = 0.0
    width: float = 0.0


@dataclass(frozen=True)
class Row:
    """A rank, or the job itself, and its bars in order."""

    name: str
    bars: list[Bar]


@dataclass(frozen=True)
class Timeline:
    """All bars, between two times in seconds since the epoch."""

    begin: float
    end: float
    rows: list[Row]
    requeues: list[tuple[float, str]]

    @property
    def first(self) -> float:
        """When the first rank started."""
        return min(bar.started for row in self.rows for bar in row.bars)


def timeline_of(run: Run, now: float, final: bool) -> Timeline | None:
    """Return the bars of a run's ranks; None if none has started."""
    folder = run.folder.state
    ranks = [f"{role}-{index}" for role, index in ranks_of(run.plan)]
    rows = [Row(rank, _bars(folder / f"{rank}.jsonl", final)) for rank in ranks]
    requeues = [
        (record["time"], record.get("cause", ""))
        for record in state_records(folder / JOB_STATE)
        if record.get("event") == "requeued" and "time" in record
    ]
    starts = [bar.started for row in rows for bar in row.bars]
    if not starts:
        return None
    submitted = run.folder.read_record().get("submitted")
    begin = min(submitted or min(starts), *starts)
    last = [bar.ended for row in rows for bar in row.bars if bar.ended is not None]
    end = max([*last, *starts, *(at for at, _ in requeues)]) if final else now
    end = max(end, begin + 0.001)
    placed = [Row(row.name, [_placed(bar, begin, end) for bar in row.bars]) for row in rows]
    return Timeline(begin, end, placed, requeues)


def _bars(state: Path, final: bool) -> list[Bar]:
    """Return a rank's starts, by its state file. Of one that was cut off all that is known is when
    it was last seen: by the file's time stamp, or the one that the next start found there."""
    bars: list[Bar] = []
    last = 0.0
    for record in state_records(state):
        event, at = record.get("event"), float(record.get("time") or 0)
        if event == "started":
            _close(bars, max(last, float(record.get("seen") or 0)))
            attempt, host = int(record.get("attempt") or 0), str(record.get("host") or "")
            bars.append(Bar(attempt, host, at, None, end="running", words="running"))
        elif event == "ended" and bars:
            end, words = _ending(record)
            bars[-1] = replace(bars[-1], ended=at, end=end, words=words)
        last = at
    if final and bars and bars[-1].ended is None:
        _close(bars, max(last, state.stat().st_mtime))
    return bars


def _close(bars: list[Bar], last: float) -> None:
    if bars and bars[-1].ended is None:
        words = "cut off: no record of its end"
        bars[-1] = replace(bars[-1], ended=last, end="unknown", words=words)


def _ending(record: dict[str, Any]) -> tuple[str, str]:
    code, asked = record.get("exit_code"), record.get("asked")
    rank = RankState("", 0, exit_code=code, signal=record.get("signal"), oom=record.get("oom"))
    if asked not in (None, "end"):
        return "asked", f"asked to end ({asked}), {describe_end(rank)}"
    return ("failed" if rank.status else "completed"), describe_end(rank)


def _placed(bar: Bar, begin: float, end: float) -> Bar:
    scale = WIDTH / (end - begin)
    left = min((bar.started - begin) * scale, WIDTH - _NARROWEST)
    width = max(((end if bar.ended is None else bar.ended) - bar.started) * scale, _NARROWEST)
    return replace(bar, left=round(left, 1), width=round(width, 1))
