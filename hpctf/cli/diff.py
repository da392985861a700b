"""``hpctf diff``: what two runs do not share."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click
from rich.text import Text

from hpctf.cli.common import (
    answer_json,
    json_option,
    open_run,
    plain_table,
    site_option,
)
from hpctf.common.terminal import console, visible
from hpctf.common.units import number

if TYPE_CHECKING:
    from hpctf.runs.compare.code import CodeDifference, FileDifference
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
    help="Only this section; again for more.",
)
@click.option("--stat", is_flag=True, help="Of code, how many lines of which files.")
@json_option
@click.argument("first", metavar="A")
@click.argument("second", metavar="B")
def diff(
    site: str | None,
    only: tuple[str, ...],
    stat: bool,
    as_json: bool,
    first: str,
    second: str,
) -> None:
    """Tell what differs from run A to run B: what was asked for, code, environment, metrics.

    The exit code is 0 whatever differs.
    """
    from hpctf.runs.compare.comparison import difference

    a, b = open_run(first, site).folder, open_run(second, site).folder
    found = difference(a, b, only or _SECTIONS)
    if as_json:
        content = {name: value for name, value in asdict(found).items() if value is not None}
        answer_json(_without_text(content) if stat else content)
        return
    click.echo(f"A: {a.id}\nB: {b.id}")
    if found.parameters is not None:
        _section("Parameters")
        _values(found.parameters)
    if found.code is not None:
        _section("Code")
        _code(found.code, stat)
    if found.environment is not None:
        _section("Environment")
        _values(found.environment)
    if found.metrics is not None:
        _section("Metrics")
        _metrics(found.metrics)


def _section(title: str) -> None:
    click.echo()
    console(highlight=False).print(Text(title, "bold"))


def _values(values: Sequence[Value]) -> None:
    if not values:
        click.echo("no difference")
        return
    plain_table(("", "A", "B"), [(one.name, _shown(one.a), _shown(one.b)) for one in values])


def _metrics(metrics: Sequence[Metric]) -> None:
    if not metrics:
        click.echo("none were logged")
        return
    rows = [
        (
            one.name,
            _shown(one.a),
            _shown(one.b),
            "" if one.difference is None else f"{one.difference:+.6g}",
        )
        for one in metrics
    ]
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
            click.echo(_line(file))
        else:
            _patch(file.diff)


def _git(state: dict[str, Any] | None) -> str:
    """Return what git said in one line."""
    if state is None:
        return "not in git"
    words = [f"commit {(state.get('commit') or 'not known')[:12]}"]
    words += [f"of {state['branch']}"] if state.get("branch") else []
    words += ["with changes of its own"] if state.get("dirty") else []
    words += ["with files that git is not told of"] if state.get("untracked") else []
    words += [f"({state['problem']})"] if state.get("problem") else []
    return " ".join(words)


def _line(file: FileDifference) -> str:
    name = _shown(file.name)
    if file.diff is not None:
        return f"{name}: {file.change}, +{file.added} -{file.removed}"
    return f"{name}: {file.change}, {_side(file.a)} -> {_side(file.b)}"


def _side(side: dict[str, Any] | None) -> str:
    if side is None:
        return "nothing"
    if "link" in side:
        return f"link to {_shown(side['link'])}"
    return f"{side['size']:,} bytes ({side['sha256'][:10]})"


def _patch(text: str) -> None:
    screen = console(highlight=False, soft_wrap=True)
    for line in text.split("\n"):
        head = line.startswith(("---", "+++"))
        style = "bold" if head else _COLOURS.get(line[:1], "")
        screen.print(Text(visible(line), style))


def _without_text(content: dict[str, Any]) -> dict[str, Any]:
    for file in content.get("code", {}).get("files", ()):
        del file["diff"]
    return content
