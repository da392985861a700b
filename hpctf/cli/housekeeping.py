"""Commands on what runs leave behind: archive, du, and the removal of ``hpctf runs --rm``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from hpctf.cli.common import answer_json, json_option, plain_table, say, say_unreadable, site_option
from hpctf.cli.help_groups import GroupedCommand, in_group
from hpctf.cli.run_options import agreed, choice_of, choice_options, yes_option
from hpctf.common.units import clock, file_size
from hpctf.errors import UsageError
from hpctf.runs.root import runs_root_of

if TYPE_CHECKING:
    from hpctf.runs.housekeeping.archives import Archived
    from hpctf.runs.housekeeping.disk_usage import Sizes, Usage
    from hpctf.runs.search.selection import Choice


def remove_chosen(root: Path, choice: Choice, yes: bool, as_json: bool) -> None:
    """Remove runs after asking, and without asking what an interrupted removal has left."""
    from hpctf.runs.housekeeping.removal import finish_removals, propose, remove

    removed = finish_removals(root, _tell_finished)
    proposal = propose(root, choice, removed)
    if (proposal.going or not removed) and agreed(proposal, "Remove", yes):
        removed += remove(root, proposal.folders)
    if as_json:
        answer_json({"removed": removed, "kept": proposal.staying})
        return
    for run_id in removed:
        click.echo(run_id)


def _tell_finished(run_id: str) -> None:
    say(f"Run {run_id} was half removed, and is gone.")


@click.command(cls=GroupedCommand)
@choice_options
@in_group(
    "Archives",
    click.option(
        "--to", metavar="FOLDER", type=Path, help="Folder of the archives (default: .archive)."
    ),
    click.option("--list", "listing", is_flag=True, help="List the archives."),
    click.option("--restore", metavar="ID|FILE", help="Restore a run; its archive stays."),
)
@yes_option
@site_option
@json_option
def archive(
    to: Path | None,
    restore: str | None,
    listing: bool,
    yes: bool,
    site: str | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Pack each run into one compressed file, and remove its folder.

    RUN is an id, a unique prefix, or @last.
    """
    choice, root = choice_of(options), runs_root_of(site)
    if (restore is not None) + listing + (not choice.all) > 1:
        raise UsageError("Name runs, or pass --restore or --list: one of them at a time.")
    if listing:
        _list_archives(root, to, as_json)
    elif restore is not None:
        _restore(root, restore, to, as_json)
    else:
        _archive(root, choice, to, yes, as_json)


def _archive(root: Path, choice: Choice, to: Path | None, yes: bool, as_json: bool) -> None:
    from hpctf.runs.housekeeping.archives import archive
    from hpctf.runs.housekeeping.removal import finish_removals, propose

    removed = [] if choice.all else finish_removals(root, _tell_finished)
    proposal = propose(root, choice, removed)
    made: list[Archived] = []
    if (proposal.going or not removed) and agreed(proposal, "Archive", yes):
        made = archive(root, proposal.folders, to, lambda name: say(f"Archived {name}"))
    if as_json:
        answer_json({"archived": [_plain(one) for one in made], "kept": proposal.staying})
        return
    for one in made:
        click.echo(str(one.file))


def _list_archives(root: Path, to: Path | None, as_json: bool) -> None:
    from hpctf.runs.housekeeping.archives import archives

    found = archives(root, to)
    if as_json:
        answer_json([_plain(one) for one in found])
        return
    rows = [(one.id, one.experiment, clock(one.time), file_size(one.size)) for one in found]
    plain_table(("RUN", "EXPERIMENT", "ARCHIVED", "SIZE"), rows)


def _restore(root: Path, name: str, to: Path | None, as_json: bool) -> None:
    from hpctf.runs.housekeeping.archives import restore

    folder = restore(root, name, to)
    say(f"Run {folder.id} is back: {folder.path}")
    if as_json:
        answer_json({"id": folder.id, "run_folder": str(folder.path)})
    else:
        click.echo(folder.id)


def _plain(one: Archived) -> dict[str, Any]:
    return {
        "id": one.id,
        "experiment": one.experiment,
        "file": str(one.file),
        "bytes": one.size,
        "archived": one.time,
    }


@click.command(cls=GroupedCommand)
@choice_options
@click.option("--runs", "each", is_flag=True, help="Print one line per run, for all experiments.")
@site_option
@json_option
def du(each: bool, site: str | None, as_json: bool, **options: Any) -> None:
    """Show how much disk space runs take, the largest first.

    Prints one line per experiment. If you name runs, or an option selects some, it prints one line
    per run. RUN is an id, a unique prefix, or @last.
    """
    from hpctf.runs.housekeeping.archives import archives
    from hpctf.runs.housekeeping.disk_usage import NOTHING, by_experiment, usage
    from hpctf.runs.search.selection import choose

    choice, root = choice_of(options), runs_root_of(site)
    found = usage(choose(root, choice))
    experiments = by_experiment(found)
    total = sum(experiments.values(), NOTHING)
    put_away = sum(one.size for one in archives(root)) if choice.all else 0
    if as_json:
        runs = [_of_run(one) for one in found]
        sizes = {name: _bytes(sizes) for name, sizes in experiments.items()}
        sums = {"total": _bytes(total), "archives": put_away}
        answer_json({"runs": runs, "experiments": sizes, **sums})
        return
    rows = experiments if choice.all and not each else {one.run.id: one.sizes for one in found}
    lines = [
        (name, *map(file_size, _bytes(sizes).values()))
        for name, sizes in [*rows.items(), ("total", total)]
    ]
    plain_table(("", *(part.upper() for part in _bytes(total))), lines)
    if put_away:
        say(f"Archives take {file_size(put_away)} besides: hpctf archive --list")
    if total.unread:
        say(f"{total.unread} folders could not be read, and are not counted.")
    say_unreadable(one.run for one in found)


def _of_run(one: Usage) -> dict[str, Any]:
    known = {key: one.run.details[key] for key in ("id", "experiment", "state", "reason")}
    return {**known, "bytes": _bytes(one.sizes)}


def _bytes(sizes: Sizes) -> dict[str, int]:
    return {**sizes.parts, "total": sizes.total}
