"""What several commands share: naming a run, and saying things."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpctf.common.secrets import hidden, hide
from hpctf.common.terminal import console, visible
from hpctf.common.units import elapsed

if TYPE_CHECKING:
    from hpctf.hyperdrive_run import HyperDriveRun
    from hpctf.run import Run
    from hpctf.runs.status.listing import Listed
    from hpctf.runs.status.state import RunState

Command = Callable[..., Any]
Give = Callable[[Command], Command]
"""What gives a command options or arguments."""

site_option = click.option(
    "--site", metavar="NAME|FILE", help="Site to use (default: HPCTF_SITE, else found)."
)
set_option = click.option(
    "--set",
    "settings",
    multiple=True,
    metavar="KEY=VALUE",
    help="Set a key of the site, such as mpi.plugin=pmi2 (hpctf site explain).",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Answer in JSON.")
run_argument = click.argument("run_name", metavar="RUN")
"""A run's id, a unique prefix, or @last."""


def together(*options: Give) -> Give:
    """Return what gives a command all of these, in the order of its ``--help``."""

    def give(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return give


def out_option(help: str) -> Give:
    """Give a command ``--out``, a file to write."""
    kind = click.Path(path_type=Path, dir_okay=False)
    return click.option("-o", "--out", "--to", "out", type=kind, help=help)


def given_of(context: click.Context, options: dict[str, Any]) -> dict[str, Any]:
    """Return the options that are on the command line."""
    default = click.core.ParameterSource.DEFAULT
    source = context.get_parameter_source
    return {name: value for name, value in options.items() if source(name) is not default}


def open_run(name: str, site: str | None) -> Run:
    """Return the run that RUN stands for; it may be a run's folder, too."""
    from hpctf.run import Run
    from hpctf.run_folder.layout import find_run
    from hpctf.runs.root import runs_root_of

    if os.sep in name:
        folder = os.path.abspath(os.path.expanduser(name))
        if os.path.lexists(os.path.join(folder, "run.json")):
            return Run(folder)
    return Run(find_run(runs_root_of(site), name))


def open_study(name: str, site: str | None) -> HyperDriveRun:
    """Return the study that STUDY stands for."""
    from hpctf.hyperdrive_run import HyperDriveRun

    return HyperDriveRun(open_run(name, site).folder)


def open_runs(names: Sequence[str], site: str | None) -> list[Run]:
    """Return the runs that RUN|EXPERIMENT... stand for, each once: an experiment's all."""
    from hpctf.runs.root import runs_root_of

    root = runs_root_of(site)
    found: dict[str, Run] = {}
    for name in names:
        for run in runs_of_experiment(root, name) or [open_run(name, site)]:
            found[str(run.folder.path)] = run
    return list(found.values())


def with_trials(runs: Iterable[Run]) -> list[Run]:
    """Return runs, of each study its trials in its stead: they have what was logged."""
    found: list[Run] = []
    for run in runs:
        if run.folder.is_study:
            from hpctf.hyperdrive_run import HyperDriveRun

            found += HyperDriveRun(run.folder).get_trials()
        else:
            found.append(run)
    return found


def runs_of_experiment(root: Path, name: str) -> list[Run]:
    """Return the runs of an experiment that can be read; none if nothing has that name."""
    from hpctf.errors import UsageError
    from hpctf.run import Run
    from hpctf.run_folder.layout import check_name, run_folders
    from hpctf.runs.status.listing import readable_runs

    with contextlib.suppress(UsageError):
        check_name("experiment", name)
        return [Run(one) for one in readable_runs(run_folders(root, name), say)]
    return []


def say(text: str) -> None:
    """Tell the story, on stderr."""
    print(hidden(text), file=sys.stderr, flush=True)


def say_unreadable(runs: Iterable[Listed]) -> None:
    """Say what is wrong with those runs of a listing that cannot be read."""
    for run in runs:
        if run.unreadable:
            say(f"Cannot read run {run.id}: {run.unreadable}. Its folder: {run.folder.path}")


def answer_json(value: Any) -> None:
    """Give the answer as JSON, on stdout: in ASCII, without a character that is not `visible`, nor
    what looks like a secret. Of a list, each item is a line."""
    shown = hide(value, set())
    if isinstance(shown, list) and shown:
        text = "[\n" + ",\n".join(json.dumps(item, default=repr) for item in shown) + "\n]"
    else:
        text = json.dumps(shown, indent=2, default=repr)
    print(text.replace("\x7f", "\\u007f"))


def plain_table(head: Sequence[str], rows: Sequence[Sequence[Any]], err: bool = False) -> None:
    """Print columns as wide as their widest cell, on stdout or stderr."""
    cells = [list(head), *([visible(hidden(str(cell))) for cell in row] for row in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    for row in cells:
        line = "  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip()
        click.echo(line, err=err)


def print_table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print a table for people; in a pipe it is as wide as it needs to be, so that lines stay
    whole."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    table = Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
    for title in titles:
        table.add_column(title, overflow="fold", no_wrap=title == titles[0])
    for row in rows:
        table.add_row(*(Text(visible(hidden(cell))) for cell in row))
    screen = console()
    if not screen.is_terminal:
        screen = console(width=max(80, console(width=1_000_000).measure(table).maximum))
    screen.print(table)


def wait_for(run: Run, show_output: bool = False) -> RunState:
    """Wait for a run with progress on stderr: a live line on a terminal, plain lines in a pipe."""
    try:
        with progress() as on_change:
            return run.wait_for_completion(
                show_output, raise_on_error=False, on_change=on_change, stream=sys.stderr
            )
    except KeyboardInterrupt:
        say(f"Interrupted: run {run.id} continues. Come back with: hpctf wait {run.id}")
        raise


@contextlib.contextmanager
def progress() -> Iterator[Callable[[RunState, float], None]]:
    """Yield what `Run.wait_for_completion` is to call at every look, on stderr."""
    from hpctf.runs.status.state import describe

    last = ""

    def print_changes(status: RunState, waited: float) -> None:
        nonlocal last
        words = describe(status)
        if words != last:
            print(f"[{elapsed(waited)}] {words}", file=sys.stderr, flush=True)
            last = words

    if not sys.stderr.isatty():
        yield print_changes
        return
    from rich.markup import escape

    with console(sys.stderr).status("Waiting ...") as live:
        yield lambda status, waited: live.update(
            escape(f"{visible(describe(status))}  {elapsed(waited)}")
        )
