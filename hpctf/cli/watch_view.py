"""What `hpctf watch` shows of a run: lines for a screen of any size."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from rich.text import Text

from hpctf.cli.curves import Curve, legend, plot
from hpctf.common.terminal import log_line, visible
from hpctf.common.units import elapsed, in_short, memory_size
from hpctf.tracking.charts import charts_of
from hpctf.tracking.samples import Sample, gpu_numbers

if TYPE_CHECKING:
    from hpctf.client.hpctf.series import Series
    from hpctf.run_folder.rank_states import RankState
    from hpctf.runs.status.state import RunState
    from hpctf.tracking.live import Progress

_COLORS = {
    "Running": "green",
    "Completed": "bold green",
    "Failed": "bold red",
    "Canceled": "red",
    "NotStarted": "dim",
}
_WAITING = "yellow"
_NARROWEST, _LOWEST = 38, 6
"""Columns and lines that a plot needs."""
_MOST_POINTS = 1000
_FIRST = ("loss", "accuracy", "acc")
"""Metrics whose curves come first, where there is not room for all."""


class View(NamedTuple):
    """A run at one moment.

    ``about`` says where it runs; ``samples`` are the last ones by rank; ``log`` are the last lines
    of ``log_name``.
    """

    id: str
    about: str
    status: RunState
    submitted: float
    now: float
    progress: Progress | None
    series: dict[str, Series]
    samples: dict[str, Sample]
    log_name: str
    log: list[str]


def paint(view: View, width: int, height: int) -> list[Text]:
    """Return `height` lines of at most `width` columns.

    The head and the ranks have what they need, the curves and the log share what is left; on a low
    screen the curves give way first.
    """
    head = _head(view, width)
    foot = Text("q or Ctrl-C: leave; the run continues", "dim")
    left = height - len(head) - 1
    ranks = _ranks(view, min(left, max(2, left // 3)))
    left -= len(ranks)
    names = [list(chart.series) for chart in charts_of(view.series).charts]
    curves = [] if left < _LOWEST + 3 or not names else _curves(names, width, left * 3 // 5)
    left -= len(curves)
    log = [Text(view.log_name, "dim"), *(Text(line) for line in view.log[-(left - 1) :])]
    lines = [*head, *ranks, *curves, *(log if left > 1 else ())]
    lines += [Text()] * (height - 1 - len(lines))
    lines = [*lines[: height - 1], foot]
    for line in lines:
        line.no_wrap = True
        line.truncate(width, overflow="ellipsis")
    return lines


def told(view: View) -> str:
    """Return in a few words how far the training is, and its last values; for plain lines."""
    words = [_epochs(view.progress)] if view.progress else []
    words += [f"{name} {in_short(series.values[-1])}" for name, series in _ordered(view.series)[:4]]
    return ", ".join(words)


def used_now(view: View) -> str:
    """Return what the ranks use together; empty if nobody knows."""
    rows = [sample.row for sample in view.samples.values()]
    if not rows:
        return ""
    cores = sum(row.get("cpu") or 0.0 for row in rows)
    words = [f"{cores:.1f} cores", memory_size(sum(row.get("memory") or 0 for row in rows))]
    uses = [row[f"gpu{n}_use"] for row in rows for n in gpu_numbers(row) if f"gpu{n}_use" in row]
    if uses:
        words.append(f"GPUs {sum(uses) / len(uses):.0f} %")
    return ", ".join(words)


def _head(view: View, width: int) -> list[Text]:
    status = view.status
    first = Text.assemble(
        (view.id, "bold"), "  ", (status.state, _COLORS.get(status.state, _WAITING)), "  "
    )
    began = _began(status) or view.submitted
    until = max((rank.ended or 0.0 for rank in status.ranks), default=0.0) if status.final else 0.0
    first.append(f"{elapsed(max(0.0, (until or view.now) - began))}  ")
    first.append(view.about, "dim")
    lines = [first]
    if status.reason:
        style = "red" if status.final and status.state != "Completed" else _WAITING
        lines.append(Text(visible(status.reason).expandtabs(), style))
    if view.progress is not None:
        lines.append(_bar(view, width))
    return lines


def _bar(view: View, width: int) -> Text:
    """Return the epochs done of all, as a bar, and the time left."""
    progress = view.progress
    assert progress is not None
    line = Text(f"{_epochs(progress)} ")
    left = progress.left_s(view.now, _began(view.status))
    ending = "" if left is None or view.status.final else f" about {elapsed(left)} left"
    room = max(0, min(60, width - len(line) - len(ending) - 1))
    done = round(room * min(1.0, progress.epoch / max(1, progress.epochs)))
    line.append("━" * done, "green").append("─" * (room - done), "dim").append(ending)
    return line


def _epochs(progress: Progress) -> str:
    return f"epoch {progress.epoch} of {progress.epochs}"


def _began(status: RunState) -> float | None:
    return min((rank.started for rank in status.ranks if rank.started), default=None)


def _ranks(view: View, height: int) -> list[Text]:
    """Return a table of the ranks; those that there is no room for are counted."""
    ranks = view.status.ranks
    shown = ranks if len(ranks) < height else ranks[: max(0, height - 2)]
    head = ("RANK", "HOST", "STATE", "TIME", "CPU", "MEMORY", "GPU", "GPU MEMORY")
    table = [head, *(_rank(rank, view) for rank in shown)]
    columns = [n for n, _ in enumerate(head) if n < 4 or any(row[n] for row in table[1:])]
    widths = [max(len(row[column]) for row in table) for column in columns]
    lines = []
    for row, rank in zip(table, (None, *shown), strict=True):
        line = Text(style="" if rank else "dim")
        for column, wide in zip(columns, widths, strict=True):
            color = _COLORS.get(rank.state, "") if rank and column == 2 else ""
            cell = row[column]
            line.append(f"{cell:>{wide}}" if column > 2 else f"{cell:<{wide}}", color).append("  ")
        lines.append(line)
    rest = Counter(rank.state for rank in ranks[len(shown) :])
    if rest:
        counted = ", ".join(f"{count} {state}" for state, count in rest.items())
        lines.append(Text(f"and {sum(rest.values())} more: {counted}", "dim"))
    return lines


def _rank(rank: RankState, view: View) -> tuple[str, ...]:
    state = rank.state
    if rank.state == "Failed":
        state = f"Failed ({rank.status})"
    elif rank.restarts and rank.state == "Running":
        state = f"Running (restart {rank.restarts})"
    since = ""
    if rank.started:
        since = elapsed(max(0.0, (rank.ended or view.now) - rank.started))
    sample = view.samples.get(rank.name)
    row: dict[str, Any] = sample.row if sample and rank.state == "Running" else {}
    numbers = gpu_numbers(row)
    uses = [row[f"gpu{n}_use"] for n in numbers if f"gpu{n}_use" in row]
    held = sum(row.get(f"gpu{n}_memory", 0) for n in numbers)
    total = sum(row.get(f"gpu{n}_memory_total", 0) for n in numbers)
    return (
        rank.name,
        rank.host or "-",
        state,
        since,
        f"{row['cpu']:.1f} cores" if "cpu" in row else "",
        memory_size(row["memory"]) if "memory" in row else "",
        f"{sum(uses) / len(uses):.0f} %" if uses else "",
        f"{memory_size(held)}/{memory_size(total)}" if total else "",
    )


def _ordered(series: dict[str, Series]) -> list[tuple[str, Series]]:
    """Return the metrics: first those that everybody looks at, then as they were logged."""
    known = [(name, one) for name, one in series.items() if one.values]
    return sorted(known, key=lambda pair: _place(pair[0]))


def _place(name: str) -> tuple[int, int]:
    base = name.removeprefix("val_")
    place = _FIRST.index(base) if base in _FIRST else len(_FIRST)
    return place, int(name != base and place < len(_FIRST))


def _curves(groups: Sequence[list[Series]], width: int, height: int) -> list[Text]:
    """Return plots side by side, in as many rows as there is room for."""
    across = max(1, min(len(groups), width // _NARROWEST))
    down = max(1, min(-(-len(groups) // across), height // (_LOWEST + 3)))
    each, high = width // across, min(height // down, 16)
    lines: list[Text] = []
    for row in range(down):
        plots = [
            _titled([_curve(one) for one in group], each - 2, high)
            for group in groups[row * across : (row + 1) * across]
        ]
        for parts in zip(*plots, strict=True):
            line = Text()
            for part in parts:
                part.pad_right(max(0, each - part.cell_len))
                line.append_text(part)
            lines.append(line)
    return lines


def _curve(series: Series) -> Curve:
    """Return a series as a curve, of points enough for any screen, the last one among them."""
    stride = -(-len(series.values) // _MOST_POINTS)
    places = range((len(series.values) - 1) % stride, len(series.values), stride)
    axis = series.axis()
    return Curve(
        visible(series.name), [axis[n] for n in places], [series.values[n] for n in places]
    )


def _titled(curves: Sequence[Curve], width: int, height: int) -> list[Text]:
    title = Text("  ", no_wrap=True).join(legend(curves))
    title.truncate(width, overflow="ellipsis")
    return [title, *plot(curves, width, height - 1)]


def log_lines(text: str) -> list[str]:
    """Return a log's lines as they can be shown: of what a progress bar wrote over itself the last,
    without colors and other controls."""
    return [log_line(line).expandtabs() for line in text.split("\n") if line.strip()]
