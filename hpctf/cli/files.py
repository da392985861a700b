"""Commands on a run's files: logs, files, download."""

from __future__ import annotations

import os
import sys

import click

from hpctf.cli.common import answer_json, json_option, open_run, run_argument, say, site_option
from hpctf.common.progress import followed
from hpctf.common.terminal import data
from hpctf.errors import UsageError, did_you_mean
from hpctf.run_folder.logs import LogPrinter
from hpctf.run_folder.rank_states import ranks_of
from hpctf.runs.kept_files import LEFT_BY_SCRIPT


@click.command()
@run_argument
@click.option("--role", help="Only this role's logs; 'job' is the batch script's.")
@click.option("--index", type=int, help="Only this index of the role.")
@click.option("-f", "--follow", is_flag=True, help="Keep printing until the run ends.")
@site_option
def logs(
    run_name: str, role: str | None, index: int | None, follow: bool, site: str | None
) -> None:
    """Print RUN's logs; with several ranks, each line names its own."""
    run = open_run(run_name, site)
    ranks = ranks_of(run.plan)
    names = [f"{r}-{i}" for r, i in ranks if role in (None, r) and index in (None, i)]
    if role == "job":
        names = ["job"]
    if not names:
        known = sorted({*(r for r, _ in ranks), "job"})
        asked = f"{role or 'any role'}-{'*' if index is None else index}"
        hint = did_you_mean(role or "", known)
        raise UsageError(
            f"Run {run.id} has no rank {asked}.{hint}",
            "Its ranks: " + ", ".join(f"{r['name']} 0-{r['count'] - 1}" for r in run.plan["roles"]),
        )
    printers = []
    for name in names:
        prefix = name if len(names) > 1 else ""
        log = run.folder.logs / f"{name}.log"
        printers.append(LogPrinter(log, prefix, raw=not sys.stdout.isatty()))
    if not follow:
        for printer in printers:
            printer.show(final=True)
        return
    from hpctf.runs.status.wait import wait

    try:
        wait(run.folder, None, printers)
    except KeyboardInterrupt:
        say(f"Interrupted: run {run.id} continues.")
        raise


@click.command()
@run_argument
@site_option
@json_option
def files(run_name: str, site: str | None, as_json: bool) -> None:
    """List RUN's outputs, logs and checkpoints, and what it wrote beside ./outputs (snapshot/)."""
    names = open_run(run_name, site).get_file_names()
    if as_json:
        answer_json(names)
        return
    for name in names:
        data(os.fsencode(name) + b"\n")


@click.command()
@run_argument
@click.argument("names", metavar="[NAME]...", nargs=-1)
@click.option("--to", "folder", default=".", show_default=True, help="Folder to copy to.")
@site_option
def download(run_name: str, names: tuple[str, ...], folder: str, site: str | None) -> None:
    """Copy RUN's files, by name or prefix; without one, all that its script wrote."""
    run = open_run(run_name, site)
    known = run.get_file_names()
    chosen: dict[str, None] = {}
    for prefix in names or LEFT_BY_SCRIPT:
        matching = [name for name in known if name.startswith(prefix)]
        if names and not matching:
            raise UsageError(f"Run {run.id} has no file {prefix!r}.{did_you_mean(prefix, known)}")
        chosen.update(dict.fromkeys(matching))
    # On a terminal, the names that are printed show how far it is.
    names_in_turn = chosen if sys.stdout.isatty() else followed(chosen, f"Copying from {run.id}")
    for path in run.copy_files(names_in_turn, folder):
        data(os.fsencode(path) + b"\n")
