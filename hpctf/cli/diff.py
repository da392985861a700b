"""``hpctf diff``: what two runs do not share."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from hpctf.cli.common import answer_json, json_option, open_run, plain_table, site_option
from hpctf.common.terminal import console, visible
from hpctf.common.units import number

if TYPE_CHECKING:
    from hpctf.runs.compare.code import CodeDifference
    from hpctf.runs.compare.comparison import Metric, Value

_SECTIONS = ("parameters", "code", "environment", "metrics")
_COLOURS = {"+": "green", "-": "red", "@": "cyan"}
_WIDEST = 60


@click.command()
@site_option
@click.option(
    "--only",
    multiple=True,
    type=click.Choice(_SECTIONS),
    help="Only this section; can be repeated.",
)
@click.option(
    "--stat", is_flag=True, help="For code, show only how many lines changed in each file."
)
@json_option
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
def diff(
    site: str | None, only: tuple[str, ...], stat: bool, as_json: bool, first: str, second: str
) -> None:
    """Show what differs between run A and run B: request, code, environment, metrics.

    The exit code is 0 even if they differ.
    """
    from hpctf.runs.compare.comparison import difference

    a, b = open_run(first, site).folder, open_run(second, site).folder
    found = difference(a, b, only or _SECTIONS)
    if as_json:
        content = {name: value for name, value in asdict(found).items() if value is not None}
        for file in content.get("code", {}).get("files", ()) if stat else ():
            del file["diff"]
        answer_json(content)
        return
    click.echo(f"A: {a.id}\nB: {b.id}")
    show: dict[str, Callable[[Any], None]] = {
        "code": partial(_code, stat=stat),
        "metrics": _metrics,
    }
    for name in _SECTIONS:
        section = getattr(found, name)
        if section is not None:
            click.echo()
            console(highlight=False).print(Text(name.capitalize(), "bold"))
            show.get(name, _values)(section)


def _values(values: Sequence[Value]) -> None:
    if not values:
        click.echo("no difference")
        return
    plain_table(("", "A", "B"), [(one.name, _shown(one.a), _shown(one.b)) for one in values])


def _metrics(metrics: Sequence[Metric]) -> None:
    if not metrics:
        click.echo("none were logged")
        return
    rows = []
    for one in metrics:
        more = "" if one.difference is None else f"{one.difference:+.6g}"
        rows.append((one.name, _shown(one.a), _shown(one.b), more))
    plain_table(("", "A", "B", "B - A"), rows)


def _shown(value: Any) -> str:
    """Return a value in one line, not too long."""
    if value is None:
        return "-"
    text = visible(number(value)).replace("\n", "\\n").replace("\t", "\\t")
    return text if len(text) <= _WIDEST else f"{text[: _WIDEST - 3]}..."


def _code(code: CodeDifference, stat: bool) -> None:
    if code.git[0] != code.git[1]:
        for name, state in zip("AB", code.git, strict=True):
            click.echo(f"{name}: {_git(state)}")
    for run in code.missing:
        click.echo(f"The snapshot of run {run} is gone.")
    if not code.files and not code.missing:
        click.echo("no difference")
    for file in code.files:
        if stat or file.diff is None:
            change = f"+{file.added} -{file.removed}"
            if file.diff is None:
                change = f"{_side(file.a)} -> {_side(file.b)}"
            click.echo(f"{_shown(file.name)}: {file.change}, {change}")
            continue
        screen = console(highlight=False, soft_wrap=True)
        for line in file.diff.split("\n"):
            head = line.startswith(("---", "+++"))
            screen.print(Text(visible(line), "bold" if head else _COLOURS.get(line[:1], "")))


def _git(state: dict[str, Any] | None) -> str:
    """Return what git said in one line."""
    if state is None:
        return "not in git"
    words = [f"commit {(state.get('commit') or 'not known')[:12]}"]
    words += [f"of {state['branch']}"] if state.get("branch") else []
    words += ["with changes of its own"] if state.get("dirty") else []
    words += ["with files that git does not track"] if state.get("untracked") else []
    words += [f"({state['problem']})"] if state.get("problem") else []
    return " ".join(words)


def _side(side: dict[str, Any] | None) -> str:
    if side is None:
        return "nothing"
    if "link" in side:
        return f"link to {_shown(side['link'])}"
    return f"{side['size']:,} bytes ({side['sha256'][:10]})"
