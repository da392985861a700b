"""Results → docs/performance.md, with its curves."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from benchmarks import peers, rows
from benchmarks.bench import CannotMeasure
from benchmarks.figures import Figure, Figures, Goal, Result

HEAD = """# Performance

How long hpctf takes, and what it costs, beside other launchers and a script written by hand.
`make bench` measures all of it and writes this page ([benchmarks](../benchmarks/README.md)).

A value is a median; the range in parentheses is from the lowest to the highest round. The cases of
a table take turns, so that whatever else the machine does affects all of them. A ratio is the
median of the rounds' ratios. All nodes of the test cluster share the CPUs of one machine: compare
cases with each other, not with your cluster.
"""
CURVES = Path(__file__).with_name("curves.py")
_LEAST_SIZES = 3


def write(path: Path, results: Mapping[str, Result]) -> None:
    """Write the page, and a picture of each row that grows in pictures/ beside it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    machines: list[dict[str, str]] = []
    for result in results.values():
        if result.machine not in machines:
            machines.append(result.machine)
    parts = [HEAD, _goals(results), _machines(machines)] if results else [HEAD, _goals(results)]
    for name in rows.ROWS:
        parts.append("\n".join(_section(rows.load(name), results.get(name), machines, path)))
    path.write_text("\n".join(part.strip() + "\n" for part in parts))


def _goals(results: Mapping[str, Result]) -> str:
    lines = ["## Goals\n", "| | goal | measured | |", "|---|---|---|---|"]
    for name in rows.ROWS:
        row = rows.load(name)
        link = f"[{_title(row)}](#{_anchor(_title(row))})"
        for goal in rows.goals(row):
            verdict = _verdict(goal, results[name].figures if name in results else Figures(()))
            lines.append(f"| {link} | {goal.text} | {' | '.join(verdict)} |")
            link = ""
    return "\n".join(lines)


def _verdict(goal: Goal, figures: Figures) -> tuple[str, str]:
    measured = goal.reading(figures)
    if measured is None:
        return "–", "not measured"
    if goal.is_met(measured):
        return _number(measured), "met"
    bound = goal.most if goal.most is not None else goal.least
    beyond = abs(measured / bound - 1) if bound else 0.0
    return _number(
        measured
    ), f"missed by {100 * beyond:.0f} %. {' '.join(goal.why.split())}".strip()


def _machines(machines: Sequence[dict[str, str]]) -> str:
    numbers = [str(number + 1) for number in range(len(machines))]
    lines = ["## Machines\n", f"| | {' | '.join(numbers)} |", f"|---|{'---|' * len(machines)}"]
    for name in machines[0] if machines else ():
        lines.append(f"| {name} | {' | '.join(machine[name] for machine in machines)} |")
    return "\n".join(lines)


def _section(
    row: rows.Row, result: Result | None, machines: Sequence[dict[str, str]], path: Path
) -> Iterator[str]:
    yield f"## {_title(row)}\n\n{row.__doc__.partition(chr(10))[2].strip()}\n"
    if result is None:
        yield "Not measured yet."
        return
    figures = result.figures.rows
    groups = dict.fromkeys(figure.size_of for figure in figures)
    for group in groups:
        inside = [figure for figure in figures if figure.size_of == group]
        yield from _sized_table(group, inside) if group else _plain_table(result.figures, inside)
        name = f"growth-{result.row}-{group}.svg".replace(" ", "-")
        if group and _draw(path.parent / "pictures" / name, group, inside):
            yield f"![{_title(row)}, by the number of {group}](pictures/{name})\n"
    yield f"Measured on {result.date}, on machine {machines.index(result.machine) + 1}."


def _plain_table(all_figures: Figures, figures: Sequence[Figure]) -> Iterator[str]:
    has_base = any(figure.base for figure in figures)
    yield f"| | measured |{' ratio |' * has_base}\n|---|---|{'---|' * has_base}"
    for figure in figures:
        cells = [figure.case, _cell(figure, with_unit=True)]
        if has_base:
            ratio = all_figures.ratio(figure.case, figure.base) if figure.base else None
            cells.append("" if ratio is None else f"{ratio:.2f} × {figure.base}")
        yield f"| {' | '.join(cells)} |"
    yield ""


def _sized_table(size_of: str, figures: Sequence[Figure]) -> Iterator[str]:
    sizes = sorted({figure.size or 0 for figure in figures})
    yield f"| {size_of} | {' | '.join(f'{number:,}' for number in sizes)} |"
    yield f"|---|{'---|' * len(sizes)}"
    found = {(figure.case, figure.unit, figure.size): figure for figure in figures}
    for case, unit in dict.fromkeys((figure.case, figure.unit) for figure in figures):
        cells = [found.get((case, unit, number)) for number in sizes]
        shown = ["" if cell is None else _cell(cell) for cell in cells]
        yield f"| {case}, {unit} | {' | '.join(shown)} |"
    yield ""


def _cell(figure: Figure, with_unit: bool = False) -> str:
    if not figure.values:
        return figure.reason.replace("|", "\\|")
    unit = f" {figure.unit}" if with_unit else ""
    low, high = min(figure.values), max(figure.values)
    spread = f" ({_number(low)}–{_number(high)})" if len(figure.values) > 1 else ""
    return f"{_number(figure.median)}{unit}{spread}"


def _number(number: float) -> str:
    """Return a number with three digits that count."""
    if number == 0 or abs(number) >= 100:
        return f"{number:,.0f}"
    digits = 2 if abs(number) >= 1 else 3
    return (
        f"{number:.{1 if abs(number) >= 10 else digits}f}"
        if abs(number) >= 0.01
        else f"{number:.2g}"
    )


def _title(row: rows.Row) -> str:
    return row.__doc__.partition("\n")[0]


def _anchor(title: str) -> str:
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def _draw(path: Path, size_of: str, figures: Sequence[Figure]) -> bool:
    """Draw the curves of figures that grow, of three sizes at least, where matplotlib's environment
    is built."""
    if len({figure.size for figure in figures}) < _LEAST_SIZES:
        return False
    curves: dict[str, list[tuple[int, float, float, float]]] = {}
    for figure in figures:
        if figure.values and figure.size:
            point = (figure.size, figure.median, min(figure.values), max(figure.values))
            curves.setdefault(f"{figure.case}, {figure.unit}", []).append(point)
    try:
        python = peers.python_of("matplotlib")
    except (CannotMeasure, KeyError):
        return False
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps({"size": size_of, "curves": curves})
    subprocess.run([python, CURVES, path], input=content, text=True, check=True)
    return True
