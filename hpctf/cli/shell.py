"""``hpctf shell``: a shell, or a command, where a rank runs."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hpctf.cli.common import open_run, run_argument, say, site_option
from hpctf.errors import HpctfError

if TYPE_CHECKING:
    from hpctf.run_folder.layout import RunFolder
    from hpctf.run_folder.rank_states import RankState

_KILLED = 128
"""Exit codes from here on are those of a shell that a signal has ended."""


@click.command()
@click.option("--role", metavar="ROLE", help="The rank's role (default: the first rank's).")
@click.option("--index", type=click.IntRange(min=0), default=0, help="Its index (default: 0).")
@site_option
@run_argument
@click.argument("command", metavar="[COMMAND]...", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def shell(
    context: click.Context,
    run_name: str,
    role: str | None,
    index: int,
    site: str | None,
    command: tuple[str, ...],
) -> None:
    """Open a shell where a rank of RUN runs, or run COMMAND there (after --).

    It has the rank's node, folder, environment and container. The exit code is the shell's.
    """
    from hpctf.runs.shell import rank_of

    run = open_run(run_name, site).folder
    rank = rank_of(run, role, index)
    terminal = has_terminal()
    if terminal and not command:
        say(f"{rank.name} of run {run.id} on {rank.host}. Leave with exit: the training continues.")
    context.exit(run_shell(run, rank, command, terminal=terminal))


def run_shell(
    run: RunFolder, rank: RankState, command: Sequence[str] = (), *, terminal: bool
) -> int:
    """Run a shell in a rank's place, return its exit code, and say if its job's end ended it."""
    from hpctf.runs.shell import open_shell
    from hpctf.runs.status.query import look

    code = open_shell(run, rank, command, terminal=terminal)
    if code >= _KILLED:
        with contextlib.suppress(HpctfError):
            status = look(run)
            if status.final or status.state == "Finalizing":
                say(f"The shell ended with its job: run {run.id} is {status.state}.")
    return code


def has_terminal() -> bool:
    """Whether somebody types, and sees what is answered."""
    return sys.stdin.isatty() and sys.stdout.isatty()
